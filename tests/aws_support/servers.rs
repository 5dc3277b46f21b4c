//! moto and SeaweedFS as child processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::{ACCESS_KEY, Client, REGION, SECRET_KEY, test_tools, without_aws};
use crate::common::{free_tcp_port, http_get};

/// How often a server is looked at, a tenth of a second apart, before it is given up.
const LOOKS: u32 = 900;

/// A program that the kernel kills when the thread that started it ends.
fn bound_to_us(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    without_aws(&mut command);
    command.stdin(Stdio::null());
    command
}

/// A child with its output in a file.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = fs::File::options().create(true).append(true).open(&log);
        let file = file.unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What `look` finds in the end, or `None` if the server ended before.
    fn wait_for<T>(&mut self, mut look: impl FnMut(&str) -> Option<T>) -> Option<T> {
        for _ in 0..LOOKS {
            if let Some(found) = look(&self.log()) {
                return Some(found);
            }
            if self.has_ended() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("a server does not answer; it said: {}", self.log());
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let end = log.len().saturating_sub(4000);
            let end = (end..log.len()).find(|i| log.is_char_boundary(*i));
            println!("the server said: {}", &log[end.unwrap_or(0)..]);
        }
    }
}

/// S3, CloudWatch Logs, STS, EC2 and more in memory: what it holds ends with it. It takes any credentials.
pub struct Moto {
    server: Running,
    port: u16,
    tools: PathBuf,
    _folder: TempDir,
}

impl Moto {
    /// `None` where the packages are not there, which is told; in CI it is a failure.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// With settings of moto in the environment, such as `INITIAL_NO_AUTH_ACTION_COUNT`.
    pub fn start_with(settings: &[(&str, &str)]) -> Option<Self> {
        let tools = test_tools()?;
        let folder = tempfile::tempdir().unwrap();
        let mut command = bound_to_us(&tools.join("python"));
        // port 0: the system chooses one, and the log tells it
        command
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .env("AWS_DEFAULT_REGION", REGION)
            .envs(settings.iter().copied())
            .current_dir(folder.path());
        let mut server = Running::start(command, folder.path().join("log"));
        let port = server.wait_for(|log| {
            let (_, rest) = log.split_once("http://127.0.0.1:")?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            rest[digits.len()..].starts_with('\n').then_some(())?;
            digits.parse().ok()
        });
        let port = port.unwrap_or_else(|| panic!("moto ended: {}", server.log()));
        server.wait_for(|_| http_get(port, "/moto-api/data.json").filter(|(code, _)| *code == 200));
        Some(Self {
            server,
            port,
            tools,
            _folder: folder,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn client(&self) -> Client {
        Client::new(&self.tools, &self.endpoint())
    }

    /// What it has logged: one line for each request.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// A second S3, in Go, with credentials and objects on disk: it can be killed and started again.
pub struct Seaweed {
    server: Option<Running>,
    ports: Ports,
    tools: PathBuf,
    folder: TempDir,
}

/// The ports of its parts, each with one for gRPC.
struct Ports {
    all: Vec<u16>,
}

impl Ports {
    const FLAGS: [&'static str; 8] = [
        "-s3.port",
        "-s3.port.grpc",
        "-filer.port",
        "-filer.port.grpc",
        "-master.port",
        "-master.port.grpc",
        "-volume.port",
        "-volume.port.grpc",
    ];

    fn choose() -> Self {
        let all = Self::FLAGS.iter().map(|_| free_tcp_port()).collect();
        Self { all }
    }

    fn flags(&self) -> impl Iterator<Item = String> {
        let pair = |(flag, port)| format!("{flag}={port}");
        Self::FLAGS.iter().zip(&self.all).map(pair)
    }
}

impl Seaweed {
    /// `None` where the packages are not there, which is told; in CI it is a failure.
    pub fn start() -> Option<Self> {
        let tools = test_tools()?;
        let folder = tempfile::tempdir().unwrap();
        let keys = json!({"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY});
        let identity = json!({"name": "t", "credentials": [keys], "actions": ["Admin"]});
        let identities = json!({"identities": [identity]}).to_string();
        fs::write(folder.path().join("s3.json"), identities).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        let mut this = Self {
            server: None,
            ports: Ports::choose(),
            tools,
            folder,
        };
        // somebody may have taken one of the ports meanwhile
        for _ in 0..5 {
            if this.start_again() {
                return Some(this);
            }
            this.ports = Ports::choose();
        }
        panic!("SeaweedFS does not start: {}", this.log());
    }

    /// Starts it on the same ports and data; false if it ended. When it is true it stores objects.
    pub fn start_again(&mut self) -> bool {
        let mut command = bound_to_us(&self.tools.join("weed"));
        let folder = self.folder.path();
        let path = |flag: &str, name: &str| format!("{flag}={}", folder.join(name).display());
        command
            .args(["-logtostderr=true", "server", "-s3", "-filer"])
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=300"])
            .args(["-master.volumeSizeLimitMB=32", "-master.telemetry=false"])
            .args([
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-master.electionTimeout=500ms",
            ])
            .arg(path("-dir", "data"))
            .arg(path("-s3.config", "s3.json"))
            .args(self.ports.flags())
            .env("HOME", folder)
            .env("GOMAXPROCS", "2")
            // without it, requests for encryption at rest are refused
            .env("WEED_S3_SSE_KEY", "of tests")
            .current_dir(folder);
        let mut server = Running::start(command, folder.join("log"));
        let port = self.port();
        // it answers before it can store anything: a bucket of its own tells
        let client = self.client();
        let stores = server.wait_for(|_| {
            http_get(port, "/healthz").filter(|(code, _)| *code == 200)?;
            let bucket = json!({"Bucket": "ready"});
            let _ = client.call("s3", "create_bucket", bucket);
            let object = json!({"Bucket": "ready", "Key": "k", "Body": {"hex": "6b"}});
            client.call("s3", "put_object", object).ok()
        });
        let good = stores.is_some();
        self.server = Some(server);
        good
    }

    /// Kills it as a crash would. Its data stays. (It leaves sockets of its parts behind, in a folder that it chooses.)
    pub fn kill(&mut self) {
        self.server = None;
        for part in ["s3", "filer", "master", "volume"] {
            for port in &self.ports.all {
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-{port}.sock"));
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.ports.all[0]
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    pub fn client(&self) -> Client {
        Client::new(&self.tools, &self.endpoint())
    }

    /// What it has logged, of all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.kill();
    }
}
