//! Who adds an account stands still between two steps: a name has one account all the same.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;

use doorward_core::password::PasswordHash;
use doorward_core::store::{Account, AccountStore as _};

use super::*;

/// A way to a server on which what contains a word is held up until it is let go.
struct Gate {
    port: u16,
    held: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Gate {
    fn to(server: &Server, word: &'static str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port);
        let ((says, held), (go, gone)) = (mpsc::channel(), mpsc::channel());
        let gone = std::sync::Arc::new(std::sync::Mutex::new(gone));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, says, gone) = (client.unwrap(), says.clone(), gone.clone());
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (back, answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(answers, back, |_| ()));
                std::thread::spawn(move || {
                    pass(client, server, |bytes| {
                        if bytes
                            .windows(word.len())
                            .any(|some| some == word.as_bytes())
                        {
                            says.send(()).unwrap();
                            let _ = gone.lock().unwrap().recv();
                        }
                    });
                });
            }
        });
        Gate { port, held, go }
    }
}

/// What was held up arrives, though whoever sent it has gone.
fn pass(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        look(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn account(id: &str, hash: &str) -> Account {
    Account {
        id: UserId::new(id).unwrap(),
        username: "ada".into(),
        password_hash: PasswordHash::from_phc(hash),
        disabled: false,
        privileged: false,
        created_at: NOW,
        valid_from: ValidFrom(0),
    }
}

fn add(store: &RedisStore, account: Account) -> doorward_core::store::StoreResult<Write> {
    store.add_account(account, &Trail::default()).block_on()
}

/// The claim becomes so old as if half a minute had passed.
fn age_the_claim(server: &Server) {
    let script = "local claim = redis.call('HGET', KEYS[1], 'ada')
        redis.call('HSET', KEYS[1], 'ada', struct.pack('>i8', struct.unpack('>i8', claim) - 31000) .. string.sub(claim, 9))
        return 1";
    assert!(
        server
            .ask(&["EVAL", script, "1", "doorward:{names}names"])
            .contains(":1")
    );
}

#[test]
fn an_account_that_is_written_after_its_name_was_given_to_another_is_none() {
    let server = Server::start(&[]);
    let gate = Gate::to(&server, "$slow");
    let slow = open(&format!("redis://127.0.0.1:{}/", gate.port));
    let store = open(&server.url());
    let adding = std::thread::spawn(move || (add(&slow, account("1", "$slow")), slow));
    gate.held.recv().unwrap();
    assert_eq!(add(&store, account("2", "$fast")).unwrap(), Write::Lost);
    age_the_claim(&server);
    assert_eq!(add(&store, account("2", "$fast")).unwrap(), Write::Done);
    gate.go.send(()).unwrap();
    let (added, slow) = adding.join().unwrap();
    assert_ne!(added.ok(), Some(Write::Done));
    let has_arrived = || server.ask(&["HEXISTS", &slot(&account("1", "").id), "u1"]);
    for store in [&store, &slow] {
        assert_eq!(
            store.account("ada").block_on().unwrap().unwrap().id,
            account("2", "").id
        );
        assert_eq!(
            store.account_of(&account("1", "").id).block_on().unwrap(),
            None
        );
        assert_eq!(store.accounts(None, 9).block_on().unwrap().len(), 1);
    }
    println!("written late: {}", has_arrived());
    let late = NOW + Duration::from_secs(200 * 24 * 3600);
    eventually(|| {
        store
            .purge(late, late, 1000, &Trail::default())
            .block_on()
            .is_ok()
            && has_arrived().contains(":0")
    });
    assert!(store.account("ada").block_on().unwrap().is_some());
}

/// The key of a user's slot.
fn slot(user: &UserId) -> String {
    let server = Server::start(&[]);
    let store = open(&server.url());
    insert(&store, &session(&TestEnv::new(NOW, 1), user.as_str()));
    let keys = server.ask(&["KEYS", "doorward:{???}"]);
    keys.lines().nth(2).unwrap().trim().to_owned()
}

#[test]
fn whoever_meets_an_account_whose_name_is_still_its_own_keeps_it_so() {
    let server = Server::start(&[]);
    let store = open(&server.url());
    // As where the node stopped right after it wrote the account.
    let gate = Gate::to(&server, "$slow");
    let slow = open(&format!("redis://127.0.0.1:{}/", gate.port));
    let adding = std::thread::spawn(move || add(&slow, account("1", "$slow")));
    gate.held.recv().unwrap();
    gate.go.send(()).unwrap();
    // What says that it is one as others is held up.
    gate.held.recv().unwrap();
    age_or_kept(&server);
    assert_eq!(add(&store, account("2", "$fast")).unwrap(), Write::Lost);
    assert_eq!(
        store.account("ada").block_on().unwrap().unwrap().id,
        account("1", "").id
    );
    gate.go.send(()).unwrap();
    assert_ne!(adding.join().unwrap().ok(), Some(Write::Lost));
    assert_eq!(store.accounts(None, 9).block_on().unwrap().len(), 1);
}

/// A claim that is kept has no time: however old, it stays.
fn age_or_kept(server: &Server) {
    let script = "return string.byte(redis.call('HGET', KEYS[1], 'ada'), 8)";
    assert!(
        server
            .ask(&["EVAL", script, "1", "doorward:{names}names"])
            .contains(":0")
    );
}

#[test]
fn accounts_are_added_many_at_once_and_the_first_of_a_name_wins() {
    for url in [redis::single().url(), redis::cluster().url()] {
        let store = open(&redis::with_prefix(&url));
        let named = |n: usize| Account {
            username: format!("user-{}", n % 150).into(),
            ..account(&n.to_string(), "$x")
        };
        let all = (0..300).map(|n| (named(n), Trail::default())).collect();
        let begun = Instant::now();
        let written = store.add_accounts(all).block_on().unwrap();
        println!("300 accounts: {:?}", begun.elapsed());
        assert!(written[..150].iter().all(|one| *one == Write::Done));
        assert!(written[150..].iter().all(|one| *one == Write::Lost));
        assert_eq!(store.accounts(None, 999).block_on().unwrap().len(), 150);
    }
}
