//! boto3 behind a pipe: signed requests that the program under test had no part in.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use super::{ACCESS_KEY, REGION, SECRET_KEY, python, without_aws};

/// A client of one endpoint. A call takes milliseconds; the first of a service takes a second.
pub struct Client(Mutex<Pipe>);

struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    pub fn new(tools: &Path, endpoint: &str) -> Self {
        Self::with_keys(tools, endpoint, ACCESS_KEY, SECRET_KEY)
    }

    pub fn with_keys(tools: &Path, endpoint: &str, access: &str, secret: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/aws.py");
        let mut command = python(tools);
        without_aws(&mut command)
            .arg(script)
            .args([endpoint, access, secret, REGION])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self(Mutex::new(Pipe {
            child,
            input,
            output,
        }))
    }

    /// Any call of boto3, such as `("s3", "list_objects_v2", {"Bucket": "b"})`. Bytes are `{"hex": "..."}`, both ways.
    /// The error is AWS's code and a text.
    pub fn call(&self, service: &str, call: &str, with: Value) -> Result<Value, (String, String)> {
        self.ask(&json!({"service": service, "call": call, "with": with}))
    }

    /// The same with all pages of an answer.
    pub fn call_all(
        &self,
        service: &str,
        call: &str,
        with: Value,
    ) -> Result<Value, (String, String)> {
        self.ask(&json!({"service": service, "call": call, "with": with, "all": true}))
    }

    fn ask(&self, question: &Value) -> Result<Value, (String, String)> {
        let mut pipe = self.0.lock().unwrap();
        let input = pipe.input.as_mut().unwrap();
        writeln!(input, "{question}").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        pipe.output.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("boto3 answered {line:?} to {question}: {e}"));
        if let Some(error) = answer.get("error") {
            let text = |key: &str| error[key].as_str().unwrap().to_owned();
            return Err((text("code"), text("text")));
        }
        Ok(answer["ok"].take())
    }

    pub fn make_bucket(&self, bucket: &str) {
        let place = json!({"LocationConstraint": REGION});
        let with = json!({"Bucket": bucket, "CreateBucketConfiguration": place});
        self.call("s3", "create_bucket", with).unwrap();
    }

    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
        let with = json!({"Bucket": bucket, "Key": key, "Body": {"hex": hex}});
        self.call("s3", "put_object", with).unwrap();
    }

    /// Keys of a bucket with their sizes; an error of the server is an `Err`, as while it is down.
    pub fn try_keys(&self, bucket: &str) -> Result<BTreeMap<String, u64>, (String, String)> {
        let found = self.call_all("s3", "list_objects_v2", json!({"Bucket": bucket}))?;
        let objects = found["Contents"].as_array().cloned().unwrap_or_default();
        let pair = |o: &Value| {
            let key = o["Key"].as_str().unwrap().to_owned();
            (key, o["Size"].as_u64().unwrap())
        };
        Ok(objects.iter().map(pair).collect())
    }

    pub fn keys(&self, bucket: &str) -> BTreeMap<String, u64> {
        self.try_keys(bucket).unwrap()
    }

    /// The bytes of an object.
    pub fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        let with = json!({"Bucket": bucket, "Key": key});
        let object = self.call("s3", "get_object", with).unwrap();
        unhex(&object["Body"])
    }

    /// What the server says of an object: encryption, metadata, length.
    pub fn head(&self, bucket: &str, key: &str) -> Value {
        let with = json!({"Bucket": bucket, "Key": key});
        self.call("s3", "head_object", with).unwrap()
    }

    /// Uploads of many parts that nobody finished.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        let found = self.call("s3", "list_multipart_uploads", json!({"Bucket": bucket}));
        found.unwrap()["Uploads"].as_array().map_or(0, Vec::len)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Ok(pipe) = self.0.get_mut() {
            // it ends with its input
            pipe.input.take();
            let _ = pipe.child.kill();
            let _ = pipe.child.wait();
        }
    }
}

/// The bytes of `{"hex": "..."}`.
pub fn unhex(value: &Value) -> Vec<u8> {
    let text = value["hex"].as_str().expect("bytes as hex");
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
