//! Limits of what is served: slow clients, many clients, strangers, and the end.

use axum::routing::get;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    task::JoinHandle,
};

use super::*;
use crate::{clock, pki::Authority};

const BOUND: Duration = Duration::from_secs(10);

struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

async fn start(
    router: Router,
    connections_max: usize,
    credentials: Option<Arc<Credentials>>,
) -> Served {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = listen(address, "a test", "--nothing").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = Site {
        router,
        connections_max,
        header_timeout: Duration::from_millis(200),
        credentials,
    };
    let (stop, stopped) = watch::channel(false);
    Served {
        address,
        stop,
        serving: tokio::spawn(serve(listener, site, stopped)),
    }
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything until the other side closes, within a bound.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    // A reset is an end too.
    let _ = timeout(BOUND, stream.read_to_string(&mut text))
        .await
        .expect("it never ended");
    text
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_let_go() {
    let served = start(Router::new().route("/", get(async || "well")), 8, None).await;
    let slow = send(served.address, "GET / HTTP/1.1\r\nHost:").await;
    let text = rest(slow).await;
    assert!(!text.contains("200 OK"), "{text}");
    assert!(
        rest(send(served.address, REQUEST).await)
            .await
            .ends_with("well")
    );
}

#[tokio::test]
async fn clients_beyond_the_limit_wait_for_a_seat() {
    let served = start(Router::new().route("/", get(async || "well")), 1, None).await;
    let first = send(served.address, "GET / HTTP/1.1\r\nHost:").await;
    let second = send(served.address, REQUEST).await;
    // The first one keeps the only seat until its time is over.
    assert!(rest(second).await.ends_with("well"));
    drop(first);
}

#[tokio::test]
async fn a_request_in_progress_ends_before_serving_does_and_nobody_is_let_in_after() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&begun), Arc::clone(&go));
    let slow = move || {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            "done"
        }
    };
    let served = start(Router::new().route("/", get(slow)), 8, None).await;
    let asked = send(served.address, REQUEST).await;
    timeout(BOUND, begun.notified()).await.unwrap();
    served.stop.send_replace(true);
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert!(rest(asked).await.ends_with("done"));
    timeout(BOUND, served.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_what_to_do() {
    let served = start(Router::new(), 8, None).await;
    let error = listen(served.address, "the API", "--listen")
        .await
        .unwrap_err();
    assert!(
        error.contains("another program") && error.contains("--listen"),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_without_a_certificate_gets_through_to_a_site_of_the_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), clock::now()).unwrap();
    let credentials = Arc::new(Credentials::load(&authority, clock::now()).unwrap());
    let served = start(
        Router::new().route("/", get(async || "well")),
        8,
        Some(credentials),
    )
    .await;
    let text = rest(send(served.address, REQUEST).await).await;
    assert!(!text.contains("well"), "{text}");
}

/// Connects as a host does that is about to join: with TLS, without a certificate.
async fn connect_as_stranger(
    address: SocketAddr,
    authority: &Authority,
    alpn: &[u8],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = authority.certificate_pem();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("controller.krater").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap()
}

#[tokio::test]
async fn who_shows_no_certificate_sends_little_and_one_request_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path(), clock::now()).unwrap();
    let credentials = Arc::new(Credentials::load(&authority, clock::now()).unwrap());
    let take = async |body: Body| match axum::body::to_bytes(body, 1 << 20).await {
        Ok(bytes) => (StatusCode::OK, bytes.len().to_string()),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
    };
    let router = Router::new().route("/", axum::routing::post(take));
    let served = start(router, 8, Some(credentials)).await;
    for (length, status) in [
        (STRANGER_BYTES_MAX, "200 OK"),
        (STRANGER_BYTES_MAX + 1, "400 Bad Request"),
    ] {
        let mut stream = connect_as_stranger(served.address, &authority, b"http/1.1").await;
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // It may be refused before all is sent.
        let _ = stream.write_all(&vec![b'x'; length]).await;
        let mut answer = Vec::new();
        let _ = timeout(BOUND, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(status), "{length}: {answer}");
    }
    let stream = connect_as_stranger(served.address, &authority, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let shared = Arc::new(tokio::sync::Mutex::new(connection));
    let driven = Arc::clone(&shared);
    let request = Request::post(format!("https://{}/", served.address))
        .body(String::new())
        .unwrap();
    let asked = sender.send_request(request);
    let driving = std::future::poll_fn(|context| {
        let mut connection = driven.try_lock().unwrap();
        std::pin::Pin::new(&mut *connection).poll(context)
    });
    tokio::select! {
        answered = asked => assert_eq!(answered.unwrap().status(), StatusCode::OK),
        ended = driving => panic!("{ended:?}"),
    }
    assert_eq!(shared.try_lock().unwrap().current_max_send_streams(), 1);
}
