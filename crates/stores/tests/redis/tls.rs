//! Servers that speak TLS and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// An authority, and a server's certificate for 127.0.0.1 and no name.
struct Certificates(TempDir);

impl Certificates {
    fn made() -> Certificates {
        let made = Certificates(tempfile::tempdir().unwrap());
        let path = |name| made.path(name).display().to_string();
        let [ca, ca_key, key, wanted, certificate, names] =
            ["ca", "ca-key", "key", "wanted", "cert", "names"].map(path);
        std::fs::write(&names, "subjectAltName=IP:127.0.0.1\n").unwrap();
        let new = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let authority = [
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-keyout",
            &ca_key,
            "-out",
            &ca,
        ];
        openssl(&[&new[..], &authority].concat());
        openssl(
            &[
                &new[..],
                &["-subj", "/CN=server", "-keyout", &key, "-out", &wanted],
            ]
            .concat(),
        );
        let signed = [
            "x509", "-req", "-days", "2", "-in", &wanted, "-CA", &ca, "-CAkey", &ca_key,
        ];
        openssl(
            &[
                &signed[..],
                &["-CAcreateserial", "-extfile", &names, "-out", &certificate],
            ]
            .concat(),
        );
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.pem"))
    }

    fn ca(&self) -> PathBuf {
        self.path("ca")
    }

    /// A server's settings: no port without TLS, and no client certificates.
    fn settings(&self, port: u16) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        let (port, ca, certificate, key) =
            (port.to_string(), path("ca"), path("cert"), path("key"));
        let words = [
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-auth-clients",
            "no",
        ];
        let files = [
            "--tls-ca-cert-file",
            &ca,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
        ];
        words
            .iter()
            .chain(&files)
            .map(|it| (*it).to_owned())
            .collect()
    }
}

fn openssl(arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

fn cli(port: u16, ca: &Path, words: &[&str]) -> String {
    let mut cli = Command::new("redis-cli");
    cli.args(["-p", &port.to_string(), "--tls", "--cacert"])
        .arg(ca)
        .args(words);
    String::from_utf8_lossy(&cli.output().unwrap().stdout).into()
}

fn refused(url: &str) -> String {
    let opened = RedisStore::open(&url.parse().unwrap(), Policy::default());
    opened
        .err()
        .unwrap_or_else(|| panic!("{url} was taken"))
        .to_string()
}

/// A session's life at two nodes.
fn serves(one: &RedisStore, other: &RedisStore) {
    let row = session(&TestEnv::new(NOW, 1), "ada");
    insert(one, &row);
    assert_eq!(other.swap(rotated(&row)).block_on().unwrap(), Write::Done);
    eventually(|| other.slow_to_spread().is_none());
    let feed = other.feed().unwrap();
    let ended = one.end(row.id, NOW, EndReason::Logout, &trail()).block_on();
    assert!(ended.unwrap().unwrap().ended.is_some());
    let mut heard = Vec::new();
    eventually(|| {
        let _ = feed.read(0, &mut |end| heard.push(end.session));
        heard.contains(&row.id)
    });
    assert_eq!(ends(other), [row.id]);
}

#[test]
fn sessions_live_behind_tls_and_a_server_that_proves_nothing_is_refused() {
    let (certificates, others) = (Certificates::made(), Certificates::made());
    let ca = certificates.ca();
    let server = Server::begin(|port| certificates.settings(port));
    eventually(|| cli(server.port, &ca, &["PING"]).contains("PONG"));
    let (port, ca) = (server.port, ca.display());
    let url = format!("rediss://127.0.0.1:{port}/?ca={ca}");
    serves(&open(&url), &open(&url));
    let by_name = refused(&format!("rediss://localhost:{port}/?ca={ca}"));
    assert!(by_name.contains("certificate"), "{by_name}");
    let by_another = refused(&format!(
        "rediss://127.0.0.1:{port}/?ca={}",
        others.ca().display()
    ));
    assert!(by_another.contains("certificate"), "{by_another}");
    let by_the_web = refused(&format!("rediss://127.0.0.1:{port}/"));
    assert!(by_the_web.contains("certificate"), "{by_the_web}");
    let unreadable = refused(&format!("rediss://127.0.0.1:{port}/?ca={ca}.none"));
    assert!(unreadable.contains("ca cannot be read"), "{unreadable}");
    let _ = refused(&format!("redis://127.0.0.1:{port}/"));
    let plain = Server::start(&[]);
    let _ = refused(&format!("rediss://127.0.0.1:{}/?ca={ca}", plain.port));
}

#[test]
fn a_cluster_speaks_tls_between_its_servers_too() {
    let certificates = Certificates::made();
    let ca = certificates.ca();
    let more = [
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--tls-replication",
        "yes",
    ];
    let settings = |port| [certificates.settings(port), more.map(str::to_owned).into()].concat();
    let servers = [(); 3].map(|()| Server::begin(settings));
    for server in &servers {
        eventually(|| cli(server.port, &ca, &["PING"]).contains("PONG"));
    }
    let hosts = servers
        .each_ref()
        .map(|server| format!("127.0.0.1:{}", server.port));
    let mut create = vec!["--cluster", "create"];
    create.extend(hosts.iter().map(String::as_str));
    create.push("--cluster-yes");
    let _ = cli(servers[0].port, &ca, &create);
    for server in &servers {
        eventually(|| cli(server.port, &ca, &["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    }
    // One is named; the others are found, and verified.
    let url = format!("rediss://{}/?cluster&ca={}", hosts[0], ca.display());
    let (one, other) = (open(&url), open(&url));
    serves(&one, &other);
    let env = TestEnv::new(NOW, 2);
    for n in 0..30 {
        insert(&one, &session(&env, &n.to_string()));
    }
    assert_eq!(other.sessions(None, 99).block_on().unwrap().len(), 30);
}
