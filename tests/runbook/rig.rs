//! Two real clusters with a real Kratos database between them, and the real worker process, told by the
//! journal what to do: everything but Juju.

use anyhow::{Context as _, Result, anyhow};
use coordinator::migration::journal::{Request, Side};
use coordinator::migration::{Goal, Phase, Progress, Record, Settings, State};
use coordinator::postgres::{Password, Server};
use coordinator::steps::{Application, Applications, Store, World};
use coordinator::worker::control::{self, Handover};
use peers::cluster::Cluster;
use peers::kratos::{Kratos, Ports, Release};
use peers::wait_for;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the identity app's database on the source.
pub const SOURCE: &str = "iam_kratos";
/// Name of the identity app's database on the target.
pub const TARGET: &str = "iam_kratos-new";
const JOURNAL: &str = "iam_coordinator";

/// Both sides, and the worker between them.
pub struct Rig {
    pub source: Cluster,
    pub target: Cluster,
    pub old: Release,
    pub new: Release,
    source_ports: Arc<Ports>,
    target_ports: Arc<Ports>,
    source_server: Option<Kratos>,
    target_server: Option<Kratos>,
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    store: Store,
    world: World,
}

impl Rig {
    /// A source of `from` with `identities` people in it, served by Kratos 1.0.0, and a target of `to` that
    /// Kratos 1.0.0 migrated by itself and that was refreshed since: its server is down.
    pub fn new(from: u32, to: u32, identities: u32) -> Result<Self> {
        let source = Cluster::start(from)?;
        let target = Cluster::start(to)?;
        let (old, new) = (Release::find("1.0.0")?, Release::find("1.3.1")?);
        source.create_database(SOURCE)?;
        target.create_database(TARGET)?;
        target.create_database(JOURNAL)?;
        old.migrate(&source.uri(SOURCE))?;
        old.migrate(&target.uri(TARGET))?;
        peers::seed::rows(&source, SOURCE, identities)?;
        let source_ports = Arc::new(Ports::reserve()?);
        let target_ports = Arc::new(Ports::reserve()?);
        let source_server = old.start(&source.uri(SOURCE), &source_ports)?;
        source_server.wait_ready()?;
        let server = |cluster: &Cluster| Server {
            host: cluster.host().to_owned(),
            port: cluster.port(),
            user: cluster.superuser().0.to_owned(),
            password: Password::new(cluster.superuser().1),
            tls: false,
            ca: None,
        };
        let world = World {
            source: server(&source),
            target: server(&target),
            source_database: SOURCE.to_owned(),
            target_database: TARGET.to_owned(),
            journal_database: JOURNAL.to_owned(),
        };
        let folder = std::env::temp_dir().join(format!("runbook-{}-{}", std::process::id(), target.port()));
        std::fs::create_dir_all(&folder)?;
        std::fs::copy(env!("CARGO_BIN_EXE_dispatch"), folder.join("dispatch"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let application = |name: &str, ports: &Ports| Application {
            name: name.to_owned(),
            model: None,
            admin_endpoint: ports.admin_url(),
            public_endpoint: ports.public_url(),
        };
        let applications = Applications {
            source: application("kratos", &source_ports),
            target: application("kratos-new", &target_ports),
            coordinator: "coordinator".to_owned(),
        };
        let store = runtime.block_on(async {
            let store = Store::open(&world.target, JOURNAL, "test").await?;
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
        })
    }

    /// Makes sure that a worker runs, as every hook does.
    pub fn hook(&self) -> Result<()> {
        control::ensure(&Handover {
            world: self.world.clone(),
            unit: "coordinator/0".to_owned(),
            charm_dir: self.folder.clone(),
            log_level: "DEBUG".to_owned(),
        })
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
            if let Some(run) = state.active()
                && run.phase == Phase::Opened
                && run.note(coordinator::migration::Step::Flip, "gates-passed").is_some()
                && run.brokered.is_none()
            {
                let record = Record::Brokered { side: Side::Target, consumers: 0 };
                self.runtime.block_on(self.store.append(&record)).map_err(|error| error.to_string())?;
            }
            if good(&state, &progress) { Ok(state) } else { Err(format!("phase {}, {progress:?}", state.phase())) }
        })
        .with_context(|| format!("the worker's log:\n{}", self.worker_log()))
    }

    /// The operator runs the target application's `run-migration`, and its server starts.
    pub fn run_migration(&mut self) -> Result<()> {
        self.new.migrate(&self.target.uri(TARGET))?;
        self.start_target()
    }

    /// The target application's server starts at its next hook.
    pub fn start_target(&mut self) -> Result<()> {
        let server = self.new.start(&self.target.uri(TARGET), &self.target_ports)?;
        server.wait_ready()?;
        self.target_server = Some(server);
        Ok(())
    }

    /// The target's server goes down, as after a refresh.
    pub fn stop_target(&mut self) -> Result<()> {
        self.target_server.take().map_or(Ok(()), Kratos::stop)
    }

    /// The source's server.
    pub fn source_client(&self) -> peers::kratos::Client {
        self.source_ports.client()
    }

    /// The target's server.
    pub fn target_client(&self) -> peers::kratos::Client {
        self.target_ports.client()
    }

    /// Where the worker keeps its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
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
