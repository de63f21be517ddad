//! Two real clusters with a real Kratos database between them, and the real worker process, told by the
//! journal what to do: everything but Juju.

use super::servers::{Ports, Program, Running};
use anyhow::{Context as _, Result, anyhow};
use coordinator::migration::journal::{Request, Side};
use coordinator::migration::{Goal, Phase, Progress, Record, Settings, State, Step};
use coordinator::postgres::{Password, Server};
use coordinator::steps::{Application, Applications, Store, World};
use coordinator::worker::control::{self, Handover};
use peers::cluster::{Cluster, Mode};
use peers::places::copy_program;
use peers::wait_for;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const JOURNAL: &str = "iam_coordinator";

/// How long anything may take that the worker does.
pub const LONG: Duration = Duration::from_secs(120);

/// Both sides, and the worker between them.
pub struct Rig {
    pub source: Arc<Cluster>,
    pub target: Arc<Cluster>,
    /// What the source's application runs.
    old: Program,
    /// What the target's application runs from its refresh on.
    pub new: Program,
    source_ports: Ports,
    target_ports: Ports,
    source_server: Option<Running>,
    target_server: Option<Running>,
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    store: Store,
    world: World,
    applications: Applications,
}

impl Rig {
    /// A source of `from` with `identities` people in it, served by Kratos 1.0.0, and a target of `to` that
    /// Kratos 1.0.0 migrated by itself and that was refreshed since: its server is down.
    ///
    /// Both servers log every statement, so that a password in one would be found.
    pub fn new(from: u32, to: u32, identities: u32) -> Result<Self> {
        Self::with_settings(from, to, identities, &[])
    }

    /// As [`Rig::new`], with more settings of the target's server.
    pub fn with_settings(from: u32, to: u32, identities: u32, settings: &[(&str, &str)]) -> Result<Self> {
        let source = Cluster::builder(from).setting("log_statement", "all").start().map(Arc::new)?;
        let logged = Cluster::builder(to).setting("log_statement", "all");
        let target = settings.iter().fold(logged, |builder, (name, value)| builder.setting(name, value));
        let target = target.start().map(Arc::new)?;
        Self::between(source, target, identities)
    }

    /// As [`Rig::new`], on clusters that run already.
    pub fn between(source: Arc<Cluster>, target: Arc<Cluster>, identities: u32) -> Result<Self> {
        Self::of((Program::kratos("1.0.0")?, Program::kratos("1.3.1")?), source, target, identities)
    }

    /// As [`Rig::between`], with other programs than Kratos 1.0.0, and 1.3.1 from the refresh on.
    pub fn of((old, new): (Program, Program), source: Arc<Cluster>, target: Arc<Cluster>, people: u32) -> Result<Self> {
        let [source_database, target_database] = databases(&old);
        source.create_database(&source_database)?;
        target.create_database(&target_database)?;
        old.migrate(&source.uri(&source_database))?;
        old.migrate(&target.uri(&target_database))?;
        old.seed(&source, &source_database, people)?;
        Self::on((old, new), source, target, "")
    }

    /// A rig whose source begins as a copy of this one's, on the same clusters. Nobody may be connected to this one's
    /// source: its server goes down meanwhile.
    pub fn twin(&mut self, suffix: &str) -> Result<Self> {
        self.source_server.take().map_or(Ok(()), Running::stop)?;
        let [source_database, target_database] = databases(&self.old);
        for (cluster, database) in [(&self.source, &source_database), (&self.target, &target_database)] {
            wait_for("the database to be copied", LONG, || {
                cluster.psql("postgres", &format!("CREATE DATABASE \"{database}{suffix}\" TEMPLATE \"{database}\""))
            })?;
        }
        self.source_server = Some(self.old.serve(&self.source.uri(&source_database), &self.source_ports)?);
        let programs = (self.old.clone(), self.new.clone());
        Self::on(programs, Arc::clone(&self.source), Arc::clone(&self.target), suffix)
    }

    fn on((old, new): (Program, Program), source: Arc<Cluster>, target: Arc<Cluster>, suffix: &str) -> Result<Self> {
        let [source_database, target_database] = databases(&old).map(|name| format!("{name}{suffix}"));
        let journal_database = format!("{JOURNAL}{suffix}");
        target.create_database(&journal_database)?;
        let (source_ports, target_ports) = (old.reserve()?, old.reserve()?);
        let source_server = old.serve(&source.uri(&source_database), &source_ports)?;
        let server = |cluster: &Cluster| Server {
            host: cluster.host().to_owned(),
            port: cluster.port(),
            user: cluster.superuser().0.to_owned(),
            password: Password::new(cluster.superuser().1),
            tls: false,
            ca: None,
        };
        let world = World {
            app: old.app(),
            source: server(&source),
            target: server(&target),
            source_database,
            target_database,
            journal_database,
        };
        let folder = std::env::temp_dir().join(format!("runbook-{}-{}{suffix}", std::process::id(), target.port()));
        std::fs::create_dir_all(&folder)?;
        copy_program(Path::new(env!("CARGO_BIN_EXE_dispatch")), &folder.join("dispatch"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let application = |name: &str, ports: &Ports| Application {
            name: name.to_owned(),
            model: None,
            admin_endpoint: ports.admin_url(),
            public_endpoint: ports.public_url(),
            ..Application::default()
        };
        let applications = Applications {
            app: world.app,
            source: application(world.app.name, &source_ports),
            target: application(&format!("{}-new", world.app.name), &target_ports),
            coordinator: "coordinator".to_owned(),
        };
        let store = runtime.block_on(async {
            let store = Store::open(&world.target, &world.journal_database, "test").await?;
            store.keep_applications(&applications).await?;
            Ok::<_, coordinator::postgres::Error>(store)
        })?;
        Ok(Self {
            source,
            target,
            old,
            new,
            source_ports,
            target_ports,
            source_server: Some(source_server),
            target_server: None,
            folder,
            runtime,
            store,
            world,
            applications,
        })
    }

    /// Makes sure that a worker runs, as every hook does.
    pub fn hook(&self) -> Result<()> {
        control::ensure(
            &Handover {
                world: self.world.clone(),
                controller: Default::default(),
                unit: "coordinator/0".to_owned(),
                charm_dir: self.folder.clone(),
                log_level: "DEBUG".to_owned(),
                relations: Vec::new(),
            },
            false,
        )
    }

    /// Opens the journal anew, as the next hook does: after a restart of the target, or when its tables are gone.
    pub fn reopen_journal(&mut self) -> Result<()> {
        self.store = self.runtime.block_on(Store::open(&self.world.target, &self.world.journal_database, "test"))?;
        Ok(self.runtime.block_on(self.store.keep_applications(&self.applications))?)
    }

    /// The next process that comes by this failpoint stops there.
    pub fn stop_at(&self, failpoint: &str) -> Result<()> {
        let _old = std::fs::remove_file(self.folder.join("failpoint.reached"));
        Ok(std::fs::write(self.folder.join("failpoint"), format!("{failpoint} stop"))?)
    }

    /// Waits until the worker stands at the failpoint.
    pub fn stopped_at(&self, failpoint: &str) -> Result<()> {
        let reached = self.folder.join("failpoint.reached");
        let there = || if reached.exists() { Ok(()) } else { Err("not reached") };
        wait_for(&format!("the worker to stop at {failpoint}"), LONG, there)
            .map_err(|error| error.context(self.worker_log()))
    }

    /// Lets a stopped worker go on.
    pub fn go_on(&self) -> Result<()> {
        let pid = self.worker().and_then(rustix::process::Pid::from_raw).context("no worker lives")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::CONT)?)
    }

    /// The worker's pid, when it lives.
    pub fn worker(&self) -> Option<i32> {
        control::living(&self.folder)
    }

    /// SIGKILL for the worker.
    pub fn kill_worker(&self) -> Result<()> {
        control::stop(&self.folder)
    }

    /// What the worker wrote to its log.
    pub fn worker_log(&self) -> String {
        std::fs::read_to_string(control::log_path(&self.folder)).unwrap_or_default()
    }

    /// Writes a request and sees that a worker runs.
    pub fn ask(&self, request: Request) -> Result<()> {
        self.runtime.block_on(self.store.append(&Record::Requested(request)))?;
        self.hook()
    }

    /// A request with the default settings.
    pub fn want(&self, goal: Goal) -> Result<()> {
        self.ask(Request::plain("test", goal))
    }

    /// A request with other settings.
    pub fn want_with(&self, goal: Goal, settings: Settings) -> Result<()> {
        self.ask(Request { settings, ..Request::plain("test", goal) })
    }

    /// The journal and the progress, now.
    pub fn now(&self) -> Result<(State, Progress)> {
        let read =
            async { Ok::<_, coordinator::postgres::Error>((self.store.load().await?, self.store.progress().await?)) };
        Ok(self.runtime.block_on(read)?)
    }

    /// Waits until the request is settled; plays the consumers' broker meanwhile, as hooks do.
    pub fn settled(&self, within: Duration) -> Result<State> {
        let state = self.until("the request to be settled", within, |state, _| state.request.is_none())?;
        match &state.failure {
            Some(failure) => Err(anyhow!("{failure}\n{}", self.worker_log())),
            None => Ok(state),
        }
    }

    /// Waits for a condition on journal and progress.
    pub fn until(&self, what: &str, within: Duration, good: impl Fn(&State, &Progress) -> bool) -> Result<State> {
        wait_for(what, within, || {
            let (state, progress) = self.now().map_err(|error| format!("{error:#}"))?;
            self.broker(&state).map_err(|error| format!("{error:#}"))?;
            if good(&state, &progress) { Ok(state) } else { Err(format!("phase {}, {progress:?}", state.phase())) }
        })
        .with_context(|| format!("the worker's log:\n{}\n{}", self.worker_log(), self.servers_said()))
    }

    /// The last that both servers said of themselves, without the statements that they were sent.
    fn servers_said(&self) -> String {
        let of = |name: &str, cluster: &Cluster| {
            let log = cluster.log_tail(20_000);
            let own = |line: &&str| line.contains("LOG: ") || line.contains("ERROR: ") || line.contains("FATAL: ");
            let sent = |line: &&str| line.contains("statement: ") || line.contains("execute ");
            let lines: Vec<&str> = log.lines().filter(own).filter(|line| !sent(line)).collect();
            format!("the {name}'s log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
        };
        format!("{}\n{}", of("source", &self.source), of("target", &self.target))
    }

    /// Gives the consumers the side that the journal wants, as hooks do.
    pub fn broker(&self, state: &State) -> Result<()> {
        let Some(run) = state.active() else { return Ok(()) };
        let side = match (run.phase, run.brokered) {
            (Phase::Opened, None) if run.note(Step::Flip, "gates-passed").is_some() => Side::Target,
            (Phase::Reversing, Some(Side::Target)) if run.note(Step::ReverseFlip, "gates-passed").is_some() => {
                Side::Source
            }
            _ => return Ok(()),
        };
        self.runtime.block_on(self.store.append(&Record::Brokered { side, consumers: 0 }))?;
        Ok(())
    }

    /// The operator runs the target application's `run-migration`, and its server starts.
    pub fn run_migration(&mut self) -> Result<()> {
        self.new.migrate(&self.target_uri())?;
        self.start_target()
    }

    /// The target application's server starts at its next hook.
    pub fn start_target(&mut self) -> Result<()> {
        self.target_server = Some(self.new.serve(&self.target_uri(), &self.target_ports)?);
        Ok(())
    }

    /// The target's server goes down, as after a refresh.
    pub fn stop_target(&mut self) -> Result<()> {
        self.target_server.take().map_or(Ok(()), Running::stop)
    }

    /// The source's server.
    pub fn source_client(&self) -> peers::kratos::Client {
        self.source_ports.kratos()
    }

    /// The target's server.
    pub fn target_client(&self) -> peers::kratos::Client {
        self.target_ports.kratos()
    }

    /// The source's and the target's server, of a Hydra.
    pub fn hydra_clients(&self) -> [peers::hydra::Client; 2] {
        [&self.source_ports, &self.target_ports].map(Ports::hydra)
    }

    /// The identity app's database on the source, for a superuser.
    pub fn source_uri(&self) -> String {
        self.source.uri(&self.world.source_database)
    }

    /// The identity app's database on the target, for a superuser.
    pub fn target_uri(&self) -> String {
        self.target.uri(&self.world.target_database)
    }

    /// The name of the identity app's database on the source.
    pub fn source_database(&self) -> String {
        self.world.source_database.clone()
    }

    /// The name of the identity app's database on the target.
    pub fn target_database(&self) -> String {
        self.world.target_database.clone()
    }

    /// Runs SQL in the identity app's database on the source.
    pub fn on_source(&self, sql: &str) -> Result<String> {
        self.source.psql(&self.world.source_database, sql)
    }

    /// Runs SQL in the identity app's database on the target.
    pub fn on_target(&self, sql: &str) -> Result<String> {
        self.target.psql(&self.world.target_database, sql)
    }

    /// Restarts the source's cluster; the application finds its way back.
    pub fn restart_source(&self, mode: Mode) -> Result<()> {
        self.source.restart(mode)?;
        let client = self.source_client();
        wait_for("the source's server to be ready again", LONG, || client.ready())
    }

    /// Restarts the target's cluster, where the journal is too.
    pub fn restart_target(&mut self, mode: Mode) -> Result<()> {
        self.target.restart(mode)?;
        self.reopen_journal()
    }

    /// Runs SQL in the journal's database.
    pub fn on_journal(&self, sql: &str) -> Result<String> {
        self.target.psql(&self.world.journal_database, sql)
    }

    /// Everything of the charm on both clusters, the journal's database left out.
    pub fn left_behind(&self) -> Result<Vec<String>> {
        let mut found = peers::left_behind(&self.source, &[])?;
        found.extend(peers::left_behind(&self.target, &[&self.world.journal_database])?);
        Ok(found)
    }

    /// A charm refresh: the binary's file is another one.
    pub fn refresh_charm(&self) -> Result<()> {
        let beside = self.folder.join("dispatch.new");
        copy_program(&self.folder.join("dispatch"), &beside)?;
        Ok(std::fs::rename(beside, self.folder.join("dispatch"))?)
    }

    /// The two sides, as the worker is told of them.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Where the worker keeps its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// The names of the identity app's databases on source and target, as its charm asks for them.
fn databases(program: &Program) -> [String; 2] {
    let name = program.app().name;
    [format!("iam_{name}"), format!("iam_{name}-new")]
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the worker's log:\n{}", self.worker_log());
        }
        let _ = self.kill_worker();
        drop(self.target_server.take());
        drop(self.source_server.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
