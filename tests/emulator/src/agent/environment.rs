//! The environment of a charm process: replaced, not inherited, and exactly
//! the variables that a real agent sets.

use crate::event::Event;
use crate::world::{Operation, UnitKey, World};

/// All variables of one run.
pub(crate) fn variables(
    world: &World,
    key: &UnitKey,
    context_id: &str,
    operation: &Operation,
) -> Vec<(String, String)> {
    let charm = world.charm_folder(key).display().to_string();
    let socket = world.agent_folder(key).join("agent.socket").display().to_string();
    let tools = world.tools_folder(key).display().to_string();
    let uuid = world.model(&key.model).map(|model| model.uuid.clone()).unwrap_or_default();
    // Without an API nobody listens there.
    let addresses = world.api.as_ref().map_or_else(|| "127.0.0.1:17070".into(), |api| api.addresses.join(" "));
    let hook = if let Operation::Hook(event) = operation { event.name() } else { String::new() };
    let mut variables: Vec<(String, String)> = [
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("CHARM_DIR", &charm),
        ("CLOUD_API_VERSION", ""),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("JUJU_AGENT_SOCKET_ADDRESS", &socket),
        ("JUJU_AGENT_SOCKET_NETWORK", "unix"),
        ("JUJU_API_ADDRESSES", &addresses),
        ("JUJU_AVAILABILITY_ZONE", ""),
        ("JUJU_CHARM_DIR", &charm),
        ("JUJU_CHARM_FTP_PROXY", ""),
        ("JUJU_CHARM_HTTPS_PROXY", ""),
        ("JUJU_CHARM_HTTP_PROXY", ""),
        ("JUJU_CHARM_NO_PROXY", "127.0.0.1,localhost,::1"),
        ("JUJU_CONTEXT_ID", context_id),
        ("JUJU_HOOK_NAME", &hook),
        ("JUJU_MACHINE_ID", "0"),
        ("JUJU_MODEL_NAME", &key.model),
        ("JUJU_MODEL_UUID", &uuid),
        ("JUJU_PRINCIPAL_UNIT", ""),
        ("JUJU_UNIT_NAME", &key.unit_name()),
        ("JUJU_VERSION", &world.options.version),
        ("LANG", "C.UTF-8"),
        ("PATH", &format!("{tools}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
        ("TERM", "tmux-256color"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let mut add = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    if world.options.version.starts_with("3.") {
        add("JUJU_SLA", "");
    } else {
        add("JUJU_CHARM_TRACE_CONFIG_CA_CERT", "");
        add("JUJU_CHARM_TRACE_CONFIG_GRPC", "");
        add("JUJU_CHARM_TRACE_CONFIG_HTTP", "");
    }
    match operation {
        Operation::Hook(event) => {
            add("JUJU_DISPATCH_PATH", &format!("hooks/{hook}"));
            for (name, value) in Event::variables(event) {
                add(name, &value);
            }
        }
        Operation::Action(id) => {
            let name = super::operation_name(world, key, operation);
            add("JUJU_DISPATCH_PATH", &format!("actions/{name}"));
            add("JUJU_ACTION_NAME", &name);
            add("JUJU_ACTION_UUID", &id.to_string());
            add("JUJU_ACTION_TAG", &format!("action-{id}"));
        }
        Operation::Execute(_) => {}
    }
    variables
}
