//! Two orchestrators on one store, a Lease between them, and a Service that leads to whoever leads.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use serde_json::{Value, json};
use splitplace_tests::{
    cluster::{Fake, kubeconfig},
    http,
    process::{Process, signal, until},
    rights::{self, Right},
};

use crate::{
    PATIENT,
    commands::{free_port, good, run, splitplace, status, write},
    load::Load,
    operator::{model_of, worker},
};

const LEADER: &str = "splitplace.dev/leader";
const MODEL: &str = "fashion-mnist";

/// A pod of the StatefulSet: the same command, ports of its own since both are on this machine.
struct Pod {
    name: &'static str,
    grpc: u16,
    http: u16,
    metrics: u16,
    workers: u16,
    pulse: u16,
}

impl Pod {
    fn new(name: &'static str, fake: &Fake) -> Self {
        fake.put(
            "pods",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}),
        );
        let [grpc, http, metrics, workers, pulse] = [0; 5].map(|_| free_port());
        Self {
            name,
            grpc,
            http,
            metrics,
            workers,
            pulse,
        }
    }

    fn start(&self, folder: &Path, (grpc, workers): (SocketAddr, SocketAddr)) -> Process {
        let path = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "listen.grpc = \"127.0.0.1:{}\"\nlisten.http = \"127.0.0.1:{}\"\n\
             listen.metrics = \"127.0.0.1:{}\"\nlisten.workers = \"127.0.0.1:{}\"\n\
             listen.workers-public = \"{workers}\"\n{PATIENT}models = {:?}\nstore = {:?}\n",
            self.grpc,
            self.http,
            self.metrics,
            self.workers,
            path("models"),
            path("store"),
        );
        let file = write(folder, &format!("{}.toml", self.name), &config);
        let mut command = splitplace();
        command
            .args([
                "elect",
                "--lease=orchestrator",
                "--namespace=edge",
                "--label-pod",
            ])
            .args([
                "--name",
                self.name,
                "--hung-seconds=10",
                "--other=sp-0",
                "--other=sp-1",
            ])
            .args(["--server", &grpc.to_string()])
            .arg(format!("--listen=127.0.0.1:{}", self.pulse))
            .args(["--", "orchestrator", "--config", &file])
            .env("KUBECONFIG", path("kubeconfig"));
        Process::start(&mut command).unwrap()
    }

    fn leads(&self, fake: &Fake) -> bool {
        leads(fake, self.name)
    }

    /// Takes it out of every Service, as its end does before anybody asks the process to stop, or puts it back.
    fn terminates(&self, fake: &Fake, does: bool) {
        let status = json!({"conditions": [{"type": "Ready", "status": if does { "False" } else { "True" }}]});
        fake.put("pods", json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.name}, "status": status}));
    }

    fn is_ready(&self) -> bool {
        let address = format!("127.0.0.1:{}", self.pulse);
        http::ask(&address, "GET", "/ready", &[], &[]).is_ok_and(|answer| answer.status == 200)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.grpc)
    }
}

fn leads(fake: &Fake, pod: &str) -> bool {
    let pod = fake.get("pods", pod).unwrap_or_default();
    pod["metadata"]["labels"][LEADER] == "true"
}

/// A Service: each connection goes to the pod that carries the leader's label then.
fn service(fake: &Fake, ports: Vec<(&'static str, u16)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fake = fake.clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let found = ports.iter().find(|(name, _)| leads(&fake, name));
            // Nobody leads: the connection is closed.
            let Some((_, port)) = found else { continue };
            let Ok(pod) = TcpStream::connect(("127.0.0.1", *port)) else {
                continue;
            };
            let ways = [
                (client.try_clone(), pod.try_clone()),
                (pod.try_clone(), client.try_clone()),
            ];
            for (from, to) in ways {
                let (Ok(from), Ok(to)) = (from, to) else {
                    continue;
                };
                thread::spawn(move || copy(from, to));
            }
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 1 << 16];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Two pods of which the first leads, with two workers. A container that ends while somebody waits here is started again,
/// as the cluster does: a leader that could not renew its Lease counts on that.
struct Pair {
    fake: Fake,
    pods: [Pod; 2],
    /// The Services of clients and of workers.
    services: (SocketAddr, SocketAddr),
    processes: [Option<Process>; 2],
    /// What became of those that ended by themselves.
    ended: Vec<String>,
    folder: PathBuf,
    _workers: [Process; 2],
}

impl Pair {
    fn start(folder: &Path) -> Self {
        let fake = Fake::new();
        write(folder, "kubeconfig", &kubeconfig(fake.serve(), "edge"));
        let models = folder.join("models").display().to_string();
        good(&["packages", &models, "--only", MODEL]);
        let pods = ["sp-0", "sp-1"].map(|name| Pod::new(name, &fake));
        let ports = |port: fn(&Pod) -> u16| pods.iter().map(|pod| (pod.name, port(pod))).collect();
        let services = (
            service(&fake, ports(|pod| pod.grpc)),
            service(&fake, ports(|pod| pod.workers)),
        );
        let first = pods[0].start(folder, services);
        until("the first leads", || pods[0].leads(&fake).then_some(())).unwrap();
        let second = pods[1].start(folder, services);
        let workers = ["attic", "cellar"].map(|node| worker(node, &services.1.to_string(), folder));
        let mut pair = Self {
            fake,
            pods,
            services,
            processes: [Some(first), Some(second)],
            ended: Vec::new(),
            folder: folder.to_owned(),
            _workers: workers,
        };
        pair.serves();
        pair.until("both do their duty", |pair| {
            pair.pods.iter().all(Pod::is_ready)
        });
        pair
    }

    /// Waits until clients are served.
    #[track_caller]
    fn serves(&mut self) {
        let server = self.services.0.to_string();
        let asked = [
            "health",
            "--wait=10s",
            "--model",
            MODEL,
            "--server",
            &server,
        ];
        self.until("the model is served", |_| run(&asked).0 == Some(0));
    }

    /// Starts again what has ended by itself.
    fn tend(&mut self) {
        for (pod, process) in self.pods.iter().zip(&mut self.processes) {
            if let Some(ended) = process.take_if(|process| process.has_ended().unwrap()) {
                self.ended.push(format!("{} {}", pod.name, ended.fate()));
                *process = Some(pod.start(&self.folder, self.services));
            }
        }
    }

    /// Waits until it is so, or says what has become of the pods.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let is_so = || {
            self.tend();
            is_so(self).then_some(())
        };
        if let Err(error) = until(what, is_so) {
            let mut fates = self.ended.clone();
            for (pod, process) in self.pods.iter().zip(&mut self.processes) {
                let (ready, leads) = (pod.is_ready(), pod.leads(&self.fake));
                let fate = process.take().map_or("is not there".into(), Process::fate);
                fates.push(format!(
                    "{}, ready: {ready}, leads: {leads}, {fate}",
                    pod.name
                ));
            }
            let status = status(&self.services.0.to_string());
            let lease = self.fake.get("leases", "orchestrator");
            panic!("{error}\n{}\n{status:#?}\n{lease:#?}", fates.join("\n"));
        }
    }
}

#[test]
fn a_standby_answers_reads_and_takes_over_with_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut pair = Pair::start(folder);
    let services = pair.services;
    let leader = pair.processes[0].take().unwrap();
    let server = pair.services.0.to_string();
    let at = ["--server", &server];

    // State to be taken over: wishes, a plan, what the policy has learned.
    let wishes = json!({"parameters": {"splitplace_wishes": {"variants": ["whole"], "sla": {"milliseconds": 1234}}}});
    let asked = http::ask(
        &format!("127.0.0.1:{}", pair.pods[0].http),
        "POST",
        "/v2/repository/models/fashion-mnist/load",
        &[],
        wishes.to_string().as_bytes(),
    )
    .unwrap();
    assert_eq!(
        asked.status,
        200,
        "{}",
        String::from_utf8_lossy(&asked.body)
    );
    for picture in 0..8 {
        let picture = format!("--picture={picture}");
        good(&[&["infer", "fashion-mnist", &picture], &at[..]].concat());
    }
    let before = status(&server).unwrap();
    assert_eq!(before["standby"], false);
    assert_eq!(kinds(&before), ["whole"]);

    // The standby says the same, and who says it; it refuses what only a leader can do.
    let second = pair.pods[1].address();
    let read = until("the standby has seen the plan", || {
        let read = status(&second)?;
        (read["generation"] == before["generation"] && model_of(&read) != Value::Null)
            .then_some(read)
    })
    .unwrap();
    assert_eq!(read["standby"], true);
    assert_eq!(kinds(&read), ["whole"]);
    let (code, text) = run(&["infer", "fashion-mnist", "--picture=1", "--server", &second]);
    assert_ne!(code, Some(0));
    assert!(text.contains("standby") && text.contains(&server), "{text}");

    leader.kill_9().unwrap();
    pair.until("the second leads", |pair| pair.pods[1].leads(&pair.fake));
    let lease = pair.fake.get("leases", "orchestrator").unwrap();
    assert!(!lease["spec"]["holderIdentity"].is_null());
    // Whoever died could not take its label off.
    assert!(!pair.pods[0].leads(&pair.fake));
    pair.serves();
    let answer = good(
        &[
            &["infer", "fashion-mnist", "--picture=7", "--json"],
            &at[..],
        ]
        .concat(),
    );
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        answer["parameters"]["splitplace_sla_us"], 1_234_000,
        "{answer:#}"
    );
    let after = status(&server).unwrap();
    assert_eq!(after["standby"], false);
    assert_eq!(kinds(&after), ["whole"]);
    assert_eq!(model_of(&after)["wishes"], model_of(&before)["wishes"]);
    assert!(before["generation"].as_u64() <= after["generation"].as_u64());

    // One that hangs is not dead: nobody would notice but whoever started it.
    pair.processes[0] = Some(pair.pods[0].start(folder, services));
    pair.until("the first waits", |pair| pair.pods[0].is_ready());
    signal(child_of(pair.processes[1].as_ref().unwrap().id()), "STOP").unwrap();
    // Started again, it finds the Lease with its own name, if it comes before that runs out: either may lead then.
    pair.until("the one that hung is ended", |pair| {
        let is_its = |one: &String| {
            one.starts_with("sp-1 ended") && one.contains("has answered nothing for 10s")
        };
        pair.ended.iter().any(is_its)
    });
    pair.serves();
    // An election needs what the chart grants it, and nothing else.
    let granted = nameless(rights::granted("extreme", &["edge-ai-orchestrator"]));
    let used = nameless(pair.fake.used());
    assert_eq!(rights::missing(&granted, &used), []);
    assert_eq!(rights::idle(&granted, &used), []);
}

#[test]
fn an_upgrade_and_a_rollback_with_a_standby_lose_no_request_that_was_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut pair = Pair::start(folder);
    let of = |pod: &Pod| (pod.name, format!("127.0.0.1:{}", pod.http));
    let (fake, pods) = (pair.fake.clone(), pair.pods.each_ref().map(of));
    let load = Load::start(MODEL, move || {
        let is_served = |name: &str| {
            let pod = fake.get("pods", name).unwrap_or_default();
            leads(&fake, name) && pod["status"]["conditions"][0]["status"] != "False"
        };
        let found = pods.iter().find(|(name, _)| is_served(name))?;
        Some(found.1.clone())
    });
    load.goes_on();
    // The StatefulSet begins with the last pod; the rollback finds that one leading.
    for at in [1, 0, 1, 0] {
        let pod = &pair.pods[at];
        pod.terminates(&pair.fake, true);
        let old = pair.processes[at].take().unwrap();
        let (status, errors) = old.terminate().unwrap();
        assert!(status.success(), "{}: {errors}", pod.name);
        // A Lease that was given back is taken sooner than a pod comes.
        pair.until("the other leads", |pair| {
            pair.pods[1 - at].leads(&pair.fake)
        });
        let pod = &pair.pods[at];
        pair.processes[at] = Some(pod.start(folder, pair.services));
        pod.terminates(&pair.fake, false);
        pair.until("both do their duty", |pair| {
            pair.pods.iter().all(Pod::is_ready)
        });
        let wanted = load.further();
        pair.until("answers go on", |_| load.has_reached(wanted));
    }
    assert!(pair.pods[1].leads(&pair.fake));
    load.end();
}

#[test]
fn a_leader_that_does_not_come_to_an_end_is_ended_when_it_loses_its_lease() {
    let folder = tempfile::tempdir().unwrap();
    let mut pair = Pair::start(folder.path());
    let leader = pair.processes[0].take().unwrap();
    // As one whose requests take long, for longer than anybody could wait here.
    signal(child_of(leader.id()), "STOP").unwrap();
    signal(leader.id(), "TERM").unwrap();
    pair.fake.deny("PUT leases", true);
    let (ended, _, errors) = leader.output().unwrap();
    assert!(
        !ended.success() && errors.contains("the Lease orchestrator was lost"),
        "{errors}"
    );
    pair.fake.deny("PUT leases", false);
    pair.until("the second leads", |pair| pair.pods[1].leads(&pair.fake));
    pair.serves();
}

/// Rights as if every object were meant: what this test calls its objects, the chart does not.
fn nameless(rights: BTreeSet<Right>) -> BTreeSet<Right> {
    let nameless = |right| Right {
        name: None,
        ..right
    };
    rights.into_iter().map(nameless).collect()
}

/// The orchestrator that an `elect` has started.
fn child_of(parent: u32) -> u32 {
    let parent = parent.to_string();
    let of = |entry: fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name, which may hold anything, come state and parent.
        let (_, rest) = stat.rsplit_once(')')?;
        (rest.split_whitespace().nth(1)? == parent).then_some(id)
    };
    let mut all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.find_map(of).unwrap()
}

fn kinds(status: &Value) -> Vec<String> {
    let model = model_of(status);
    let arms = model["arms"].as_array().cloned().unwrap_or_default();
    arms.iter()
        .map(|arm| arm["kind"].as_str().unwrap().to_owned())
        .collect()
}
