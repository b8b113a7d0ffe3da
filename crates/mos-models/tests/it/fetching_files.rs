//! Files at addresses, from a real server on this machine: what may be asked, how much is taken, and what is refused.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use mos_core::{FetchError, Fetched, Fetcher};
use mos_models::{HttpFetcher, HttpFetcherOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server whose answers are bytes. It stops with the test's runtime.
struct Server {
    port: u16,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gets the path of a request, and returns the whole answer and whether the connection then hangs.
    async fn start(answer: impl Fn(&str) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let paths: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&paths), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    let mut piece = [0; 1024];
                    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                        match connection.read(&mut piece).await {
                            Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    seen.lock().unwrap().push(path.clone());
                    let (bytes, hangs) = answer(&path);
                    // A client that has enough closes first.
                    let _ = connection.write_all(&bytes).await;
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { port, paths }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn paths(&self) -> Vec<String> {
        std::mem::take(&mut *self.paths.lock().unwrap())
    }
}

fn ok(headers: &str, body: &[u8]) -> (Vec<u8>, bool) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
    ([head.as_bytes(), body].concat(), false)
}

fn redirect(target: &str) -> (Vec<u8>, bool) {
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    (head.into_bytes(), false)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn options(server: &Server) -> HttpFetcherOptions {
    HttpFetcherOptions {
        allow_schemes: vec!["http".to_owned()],
        allow_hosts: vec![format!("127.0.0.1:{}", server.port)],
        max_bytes: 100_000,
        timeout: Duration::from_secs(30),
        max_redirects: 3,
    }
}

fn fetcher(server: &Server) -> Arc<dyn Fetcher> {
    HttpFetcher::open(options(server)).unwrap()
}

async fn refused(fetcher: &Arc<dyn Fetcher>, url: &str) -> String {
    match fetcher.fetch(url).await {
        Err(FetchError::Refused(why) | FetchError::BadAddress(why)) => why,
        other => panic!("{url} gave {other:?}"),
    }
}

#[tokio::test]
async fn files_come_with_name_and_type() {
    let server = Server::start(|path| match path {
        "/notes/day%20one.md?key=1" => ok("Content-Type: text/markdown\r\n", b"# One"),
        "/named" => ok("Content-Disposition: attachment; filename=\"a/b.pdf\"\r\n", b"x"),
        "/packed" => ok("Content-Encoding: gzip\r\n", &gzip(b"unpacked")),
        _ => ok("", b""),
    })
    .await;
    let fetcher = fetcher(&server);
    let found = fetcher.fetch(&format!(" @{}", server.url("/notes/day%20one.md?key=1#part"))).await.unwrap();
    let expected = Fetched {
        bytes: b"# One".to_vec(),
        name: Some("day one.md".to_owned()),
        content_type: Some("text/markdown".to_owned()),
    };
    assert_eq!(found, expected);
    assert_eq!(fetcher.fetch(&server.url("/named")).await.unwrap().name.as_deref(), Some("b.pdf"));
    assert_eq!(fetcher.fetch(&server.url("/packed")).await.unwrap().bytes, b"unpacked");
    assert_eq!(fetcher.fetch(&server.url("/")).await.unwrap().name, None);
    assert_eq!(server.paths(), ["/notes/day%20one.md?key=1", "/named", "/packed", "/"]);
}

#[tokio::test]
async fn nothing_is_asked_that_is_not_allowed() {
    let server = Server::start(|_| ok("", b"secret")).await;
    let port = server.port;
    let own = fetcher(&server);
    for (url, why) in [
        (format!("https://127.0.0.1:{port}/"), "fetch.allow_schemes"),
        ("file:///etc/passwd".to_owned(), "fetch.allow_schemes"),
        (format!("http://user:hidden@127.0.0.1:{port}/"), "user or password"),
        (format!("http://127.0.0.1:{}/", port ^ 1), "fetch.allow_hosts"),
        ("http://example.org/".to_owned(), "fetch.allow_hosts"),
        ("not an address".to_owned(), "not an address"),
    ] {
        let said = refused(&own, &url).await;
        assert!(said.contains(why) && !said.contains("hidden"), "{url}: {said}");
    }
    // Without a list every host may be asked that is on the internet: this machine is not.
    let open = HttpFetcher::open(HttpFetcherOptions { allow_hosts: Vec::new(), ..options(&server) }).unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "2130706433",
        "0x7f.1",
        "0.0.0.0",
        "127.1",
    ] {
        let said = refused(&open, &format!("http://{host}:{port}/?token=hidden")).await;
        assert!(said.contains("leads to") && !said.contains("hidden"), "{host}: {said}");
    }
    for host in [
        "169.254.169.254",
        "10.0.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
        "224.0.0.1",
        // Behind a translator, in another writing, through a tunnel.
        "[64:ff9b::7f00:1]",
        "[64:ff9b::a9fe:a9fe]",
        "[::ffff:a9fe:a9fe]",
        "[2002:7f00:1::]",
        "0",
        "0251.0376.0251.0376",
    ] {
        let said = refused(&open, &format!("http://{host}/latest/meta-data")).await;
        assert!(said.contains("leads to"), "{host}: {said}");
    }
    assert_eq!(server.paths(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_in_the_list_does_not_open_private_addresses() {
    let server = Server::start(|_| ok("", b"here")).await;
    let by_name = |hosts: &[&str]| {
        let allow_hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        HttpFetcher::open(HttpFetcherOptions { allow_hosts, ..options(&server) }).unwrap()
    };
    let url = format!("http://localhost:{}/", server.port);
    // Both lead to the same address; only `localhost` itself says so.
    assert_eq!(by_name(&["localhost"]).fetch(&url).await.unwrap().bytes, b"here");
    assert!(refused(&by_name(&["127.0.0.1"]), &url).await.contains("allow_hosts"));
    let metadata = by_name(&["169.254.169.254"]);
    assert!(refused(&metadata, "http://169.254.169.254/").await.contains("metadata"));
}

#[tokio::test]
async fn redirects_are_checked_like_first_addresses() {
    let server = Server::start(|path| match path {
        "/one" => redirect("/two"),
        "/two" => redirect("three?x=1"),
        "/three?x=1" => redirect("/four"),
        "/zero" => redirect("/one"),
        "/metadata" => redirect("http://169.254.169.254/latest"),
        "/private" => redirect("http://10.0.0.1/"),
        "/port" => redirect("http://127.0.0.1:1/"),
        "/scheme" => redirect("file:///etc/passwd"),
        "/user" => redirect("http://a:b@127.0.0.1/"),
        "/nowhere" => redirect("http://[broken"),
        _ => ok("", b"the end"),
    })
    .await;
    let own = fetcher(&server);
    let found = own.fetch(&server.url("/one")).await.unwrap();
    assert_eq!((found.bytes.as_slice(), found.name.as_deref()), (&b"the end"[..], Some("four")));
    assert_eq!(server.paths(), ["/one", "/two", "/three?x=1", "/four"]);
    assert!(refused(&own, &server.url("/zero")).await.contains("further than 3 times"));
    assert_eq!(server.paths(), ["/zero", "/one", "/two", "/three?x=1"]);
    for path in ["/metadata", "/private", "/port", "/scheme", "/user"] {
        refused(&own, &server.url(path)).await;
        assert_eq!(server.paths(), [path]);
    }
    assert!(matches!(own.fetch(&server.url("/nowhere")).await, Err(FetchError::BadAnswer(_))));
    let none = HttpFetcher::open(HttpFetcherOptions { max_redirects: 0, ..options(&server) }).unwrap();
    assert!(refused(&none, &server.url("/three?x=1")).await.contains("further than 0 times"));
}

#[tokio::test]
async fn redirects_past_an_open_list_meet_the_same_wall() {
    let server = Server::start(|_| redirect("http://localhost:1/")).await;
    let mut options = options(&server);
    options.allow_hosts.extend(["*.localhost".to_owned(), "other.localhost".to_owned()]);
    let own = HttpFetcher::open(options).unwrap();
    assert!(refused(&own, &server.url("/")).await.contains("allow_hosts"));
}

#[tokio::test]
async fn sizes_are_bounded_packed_and_unpacked() {
    let server = Server::start(|path| match path {
        "/said" => ok("", &[b'x'; 100_001]),
        "/unsaid" => {
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
            ([head, vec![b'x'; 200_000]].concat(), true)
        }
        // A megabyte of zeros in a kilobyte.
        "/bomb" => ok("Content-Encoding: gzip\r\n", &gzip(&[0; 1 << 20])),
        "/fits" => ok("Content-Encoding: gzip\r\n", &gzip(&[0; 100_000])),
        "/damaged" => ok("Content-Encoding: gzip\r\n", b"\x1f\x8bnot really"),
        "/odd" => ok("Content-Encoding: br\r\n", b"xx"),
        "/cut" => (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf".to_vec(), false),
        _ => (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
    })
    .await;
    let own = fetcher(&server);
    for path in ["/said", "/unsaid", "/bomb"] {
        let error = own.fetch(&server.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLarge { limit: 100_000, .. }), "{path}: {error}");
    }
    assert_eq!(own.fetch(&server.url("/fits")).await.unwrap().bytes.len(), 100_000);
    for path in ["/damaged", "/odd"] {
        let error = own.fetch(&server.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::BadAnswer(_)), "{path}: {error}");
    }
    let cut = own.fetch(&server.url("/cut")).await.unwrap_err();
    assert!(matches!(cut, FetchError::Unavailable(_)) && cut.is_transient(), "{cut}");
    let missing = own.fetch(&server.url("/missing?token=hidden")).await.unwrap_err();
    assert!(matches!(missing, FetchError::Status { status: 404, .. }) && !missing.is_transient());
    assert!(!missing.to_string().contains("hidden"));
}

#[tokio::test]
async fn slow_servers_are_given_up() {
    let server = Server::start(|path| match path {
        "/head" => (Vec::new(), true),
        _ => (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf".to_vec(), true),
    })
    .await;
    let impatient =
        HttpFetcher::open(HttpFetcherOptions { timeout: Duration::from_millis(200), ..options(&server) }).unwrap();
    for path in ["/head", "/body"] {
        let error = impatient.fetch(&server.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::Unavailable(_)), "{path}: {error}");
        assert!(error.to_string().contains("fetch.timeout"), "{error}");
    }
}

#[tokio::test]
async fn wrong_settings_are_refused() {
    let server = Server::start(|_| ok("", b"")).await;
    for (schemes, hosts) in [(vec!["ftp"], vec![]), (vec!["http"], vec!["http://example.org"])] {
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let options =
            HttpFetcherOptions { allow_schemes: owned(schemes), allow_hosts: owned(hosts), ..options(&server) };
        assert!(matches!(HttpFetcher::open(options), Err(FetchError::BadAddress(_))));
    }
}
