//! An S3 server in memory that fails as a test tells it to, and remembers what it was asked. It checks no signature.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    /// With the bucket: `/evidence/…`.
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    /// How many came before.
    pub number: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn of_query(&self, name: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    pub fn part(&self) -> Option<u32> {
        self.of_query("partNumber")?.parse().ok()
    }

    pub fn upload(&self) -> Option<&str> {
        self.of_query("uploadId")
    }

    /// What it is, in a word or two.
    pub fn what(&self) -> String {
        match (self.method.as_str(), self.part()) {
            ("PUT", None) => "put".to_owned(),
            ("PUT", Some(part)) => format!("part {part}"),
            ("POST", _) if self.upload().is_some() => "complete".to_owned(),
            ("POST", _) => "begin".to_owned(),
            ("DELETE", _) if self.upload().is_some() => "abort".to_owned(),
            (other, _) => other.to_owned(),
        }
    }
}

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// As a good server does.
    Serve,
    /// The same, a while later.
    Late(Duration),
    /// An error: status, code, seconds to wait.
    Refuse(u16, &'static str, Option<u32>),
    /// The connection is broken off with the body half read.
    Reset,
    /// No answer, as long as the other side waits.
    Hold,
}

/// What it holds.
#[derive(Default)]
struct Held {
    asked: Vec<Asked>,
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, (String, BTreeMap<u32, Vec<u8>>)>,
}

type Script = dyn Fn(&Asked) -> Act + Send + Sync;
type Lock = Arc<rustls::ServerConfig>;

/// It ends with its value.
pub struct Fake {
    port: u16,
    held: Arc<Mutex<Held>>,
    stop: Arc<AtomicBool>,
}

impl Fake {
    pub fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with(None, script)
    }

    /// With TLS.
    pub fn start_with(
        lock: Option<Lock>,
        script: impl Fn(&Asked) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            port: listener.local_addr().unwrap().port(),
            held: Arc::default(),
            stop: Arc::default(),
        };
        let (held, stop) = (fake.held.clone(), fake.stop.clone());
        let script: Arc<Script> = Arc::new(script);
        let count = Arc::new(AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (held, script) = (held.clone(), script.clone());
                let (lock, count) = (lock.clone(), count.clone());
                std::thread::spawn(move || {
                    // whoever is gone is not told
                    let _ = serve(stream, lock, &held, &script, &count);
                });
            }
        });
        fake
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// What it was asked, in words.
    pub fn words(&self) -> Vec<String> {
        self.lock().asked.iter().map(Asked::what).collect()
    }

    /// How often it was asked for something.
    pub fn times(&self, what: &str) -> usize {
        self.words().iter().filter(|word| *word == what).count()
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        let path = format!("/evidence/sensor-1/{key}");
        self.lock().objects.get(&path).cloned()
    }

    pub fn objects(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// Uploads that were neither completed nor broken off.
    pub fn open_uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    pub fn forget_uploads(&self) {
        self.lock().uploads.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // so that it looks
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve(
    stream: TcpStream,
    lock: Option<Lock>,
    held: &Mutex<Held>,
    script: &Arc<Script>,
    count: &AtomicUsize,
) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let mut stream: Box<dyn Stream> = match lock {
        None => Box::new(stream),
        Some(lock) => {
            let connection = rustls::ServerConnection::new(lock).map_err(io::Error::other)?;
            Box::new(rustls::StreamOwned::new(connection, stream))
        }
    };
    let mut asked = head(&mut stream)?;
    asked.number = count.fetch_add(1, Ordering::SeqCst);
    let length: usize = asked.header("content-length").parse().unwrap_or(0);
    let act = script(&asked);
    if matches!(act, Act::Reset) {
        // with bytes unread, the end of the connection is a reset
        held.lock().unwrap().asked.push(asked);
        return stream.read_exact(&mut vec![0; length / 2]);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    held.lock().unwrap().asked.push(asked.clone());
    let (status, more, answer) = match act {
        Act::Serve => good(&mut held.lock().unwrap(), &asked, body),
        Act::Late(wait) => {
            std::thread::sleep(wait);
            good(&mut held.lock().unwrap(), &asked, body)
        }
        Act::Refuse(status, code, after) => {
            let after = after.map(|secs| format!("retry-after: {secs}\r\n"));
            (status, after.unwrap_or_default(), error(code))
        }
        Act::Reset | Act::Hold => {
            let _ = stream.read(&mut [0]);
            return Ok(());
        }
    };
    let length = answer.len();
    let head = format!(
        "HTTP/1.1 {status} Told\r\nconnection: close\r\n{more}content-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{answer}").as_bytes())?;
    stream.flush()
}

fn head(stream: &mut impl Read) -> io::Result<Asked> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Ok(Asked {
        method,
        path: decoded(path),
        query: query.to_owned(),
        headers: headers.collect(),
        number: 0,
    })
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        let hex: Vec<u8> = match byte {
            b'%' => rest.by_ref().take(2).collect(),
            _ => Vec::new(),
        };
        let text = String::from_utf8_lossy(&hex).into_owned();
        bytes.push(u8::from_str_radix(&text, 16).unwrap_or(byte));
    }
    String::from_utf8(bytes).unwrap()
}

fn error(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>of {code}</Message></Error>")
}

/// Status, more headers, body.
fn good(held: &mut Held, asked: &Asked, body: Vec<u8>) -> (u16, String, String) {
    let etag = format!("etag: \"{}\"\r\n", body.len());
    let id = asked.upload().unwrap_or_default().to_owned();
    let no = || (404, String::new(), error("NoSuchUpload"));
    match asked.what().as_str() {
        "put" => {
            held.objects.insert(asked.path.clone(), body);
            (200, etag, String::new())
        }
        "begin" => {
            let id = format!("upload-{}", asked.number);
            let upload = (asked.path.clone(), BTreeMap::new());
            held.uploads.insert(id.clone(), upload);
            let text = format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            );
            (200, String::new(), text)
        }
        "complete" => {
            let Some((path, parts)) = held.uploads.remove(&id) else {
                return no();
            };
            held.objects
                .insert(path, parts.into_values().flatten().collect());
            let text = "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>";
            (200, String::new(), text.to_owned())
        }
        "abort" => {
            held.uploads.remove(&id);
            (204, String::new(), String::new())
        }
        _ => match (asked.part(), held.uploads.get_mut(&id)) {
            (Some(part), Some((_, parts))) => {
                parts.insert(part, body);
                (200, etag, String::new())
            }
            _ => no(),
        },
    }
}
