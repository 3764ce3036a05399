//! Connections: how many, how long, and how they end.
//!
//! Guarantees: a connection holds its place only while its client speaks or reads: a header comes
//! within ten seconds, a body and an answer within `request_timeout` each, and what is sent is taken
//! within `request_timeout`. At the end a request whose header is here is answered; a connection
//! that waits for one, or has half of it, ends at once.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

use crate::config::Config;
use crate::operator::Metrics;
use crate::stall::Patient;
use crate::tls::Tls;

/// How long a client may take for its header, if the request has no shorter limit.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest header, in bytes.
pub(crate) const HEADER_BYTES: usize = 32 * 1024;

/// Connections, and how they end.
pub(crate) struct Connections {
    router: Router,
    tls: Option<Arc<Tls>>,
    metrics: Arc<Metrics>,
    patience: Duration,
    most: u32,
    shutdown_timeout: Duration,
    stopping: watch::Sender<bool>,
}

impl Connections {
    pub(crate) fn new(
        router: Router,
        tls: Option<Arc<Tls>>,
        metrics: Arc<Metrics>,
        config: &Config,
    ) -> Self {
        Connections {
            router,
            tls,
            metrics,
            patience: config.request_timeout,
            most: config.max_connections,
            shutdown_timeout: config.shutdown_timeout,
            stopping: watch::Sender::new(false),
        }
    }

    /// Accepts until a signal, then lets those go on that have a request under way.
    pub(crate) async fn accept(self, listener: TcpListener, mut end: Signals) {
        let places = Arc::new(Semaphore::new(self.most as usize));
        let mut end = pin!(end.any());
        loop {
            let place = Arc::clone(&places).acquire_owned();
            tokio::select! {
                () = &mut end => break,
                Ok(place) = place => tokio::select! {
                    () = &mut end => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, peer)) => self.connected(stream, peer, place),
                        // Out of file descriptors, most likely: look again when some are free.
                        Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                    },
                },
            }
        }
        drop(listener);
        tracing::info!("stopping");
        self.stopping.send_replace(true);
        let all_gone = places.acquire_many(self.most);
        let _ = tokio::time::timeout(self.shutdown_timeout, all_gone).await;
    }

    fn connected(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true);
        let stream = Patient::new(stream, self.patience);
        let connection = Connection {
            router: self.router.clone(),
            peer,
            patience: HEADER_TIMEOUT.min(self.patience),
            stopping: self.stopping.subscribe(),
            unsent: stream.unsent(),
        };
        let tls = self.tls.as_ref().map(|tls| tls.acceptor());
        let metrics = Arc::clone(&self.metrics);
        metrics.connections().inc();
        tokio::spawn(async move {
            match tls {
                None => connection.speak(stream).await,
                Some(tls) => connection.greet(tls.accept(stream)).await,
            }
            metrics.connections().dec();
            drop(place);
        });
    }
}

struct Connection {
    router: Router,
    peer: SocketAddr,
    patience: Duration,
    stopping: watch::Receiver<bool>,
    /// Whether an answer waits for the client to read.
    unsent: Arc<AtomicBool>,
}

impl Connection {
    /// Speaks once the handshake is done.
    async fn greet<S, E>(mut self, handshake: impl Future<Output = Result<S, E>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = tokio::time::timeout(self.patience, handshake);
        let stream = tokio::select! {
            stream = handshake => stream,
            _ = self.stopping.wait_for(|stopping| *stopping) => return,
        };
        if let Ok(Ok(stream)) = stream {
            self.speak(stream).await;
        }
    }

    async fn speak(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (router, peer) = (self.router, self.peer);
        let asked = Arc::new(AtomicBool::new(false));
        let under_way = Arc::clone(&asked);
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            let (router, under_way) = (router.clone(), Arc::clone(&under_way));
            request.extensions_mut().insert(ConnectInfo(peer));
            under_way.store(true, Ordering::Relaxed);
            async move {
                let answer = router.oneshot(request.map(Body::new)).await;
                // Its body is whole, so that it is written before the connection waits again.
                under_way.store(false, Ordering::Relaxed);
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            // A client that goes away in the middle is no error of ours.
            _ = connection.as_mut() => return,
            _ = self.stopping.wait_for(|stopping| *stopping) => {}
        }
        connection.as_mut().graceful_shutdown();
        let busy = || asked.load(Ordering::Relaxed) || self.unsent.load(Ordering::Relaxed);
        std::future::poll_fn(|context| match connection.as_mut().poll(context) {
            Poll::Pending if busy() => Poll::Pending,
            _ => Poll::Ready(()),
        })
        .await;
    }
}

/// What ends the server: SIGTERM, SIGINT.
pub(crate) struct Signals([Signal; 2]);

impl Signals {
    pub(crate) fn end() -> std::io::Result<Self> {
        let [term, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()];
        Ok(Signals([signal(term)?, signal(interrupt)?]))
    }

    async fn any(&mut self) {
        let [term, interrupt] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
