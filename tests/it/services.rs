//! The server of `grpc_services.py`: gRPC services that others wrote, and what describes them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::harness::Setup;
use crate::harness::tools::finish;
use crate::outside::python;

pub struct Services {
    child: Child,
    said: BufReader<ChildStdout>,
    python: PathBuf,
    script: PathBuf,
    pub port: u16,
}

impl Services {
    /// Serving, with `sets.binpb` beside the document; nothing where the packages are not there.
    pub fn start(setup: &Setup) -> Option<Self> {
        let python = python("grpc_health.v1, grpc_reflection, grpc_status, google.longrunning")?;
        let script = setup.path().join("grpc_services.py");
        std::fs::write(&script, include_str!("outside/grpc_services.py")).unwrap();
        let set = setup.path().join("sets.binpb");
        let described = finish(Command::new(&python).arg(&script).arg("describe").arg(set));
        assert_eq!(described.code, 0, "{}", described.err);
        let mut command = Command::new(&python);
        let mut child = command.arg(&script).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut services = Self { child, said, python, script, port: 0 };
        services.port = services.line().parse().expect("its port");
        Some(services)
    }
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
    /// From now on the service says this of itself.
    pub fn set(&mut self, service: &str, status: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{service}={status}").unwrap();
        assert_eq!(self.line(), "set");
    }
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
    /// A pool of it.
    pub fn pool(&self) -> String {
        format!("{{ targets: ['127.0.0.1:{}'], protocol: h2c }}", self.port)
    }
    /// Calls it by gRPC through this address.
    pub fn call(&self, address: &str) {
        let ended = finish(Command::new(&self.python).arg(&self.script).arg("call").arg(address));
        assert_eq!(ended.out.lines().last(), Some("all calls passed"), "{}{}", ended.out, ended.err);
    }
    /// Where its `.proto` files lie.
    pub fn protos(&self) -> PathBuf {
        let ask = "import google.longrunning as it; print(list(it.__path__)[0])";
        let ended = finish(Command::new(&self.python).args(["-c", ask]));
        PathBuf::from(ended.out.trim()).join("../..").canonicalize().unwrap()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.kill();
    }
}
