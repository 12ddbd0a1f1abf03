//! What must hold in every manifest, whether it was just compiled or came as bytes.

use crate::model::{Access, Endpoint, Limits, Manifest, Restart, Service};
use crate::*;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a manifest says wrongly: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The service, or `init`.
    pub service: String,
    /// The word that is wrong (a name, a key), to find its line.
    pub word: String,
    /// What is wrong with it.
    pub message: String,
}

/// Checks everything; yields every problem found, in the order of the services.
pub fn check(manifest: &Manifest) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    if manifest.services.len() > SERVICES_MAX {
        problems.add("init", "service", format!("more than SERVICES_MAX ({SERVICES_MAX}) services"));
        return problems.0;
    }
    if manifest.init.rank > RANK_MAX {
        problems.add("init", "rank", format!("the rank is above RANK_MAX ({RANK_MAX})"));
    }
    problems.endpoint("init", &manifest.init.endpoint);
    for access in &manifest.init.calls {
        problems.access(manifest, ("init", manifest.init.rank, &manifest.init.calls), access);
    }
    for (index, service) in manifest.services.iter().enumerate() {
        problems.service(service);
        problems.uniqueness(manifest, index, service);
        for access in &service.calls {
            problems.access(manifest, (&service.name, service.rank, &service.calls), access);
        }
    }
    problems.0
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, service: &str, word: &str, message: String) {
        self.0.push(Problem { service: service.into(), word: word.into(), message });
    }

    fn name(&mut self, service: &str, what: &str, name: &str) {
        if !is_name(name) {
            let rule = "small letters, digits, `-` and `.`, beginning with a letter";
            self.add(
                service,
                name,
                format!("the {what} name `{name}` is not 1 to {NAME_BYTES_MAX} bytes of {rule}"),
            );
        }
    }

    fn service(&mut self, service: &Service) {
        let owner = service.name.as_str();
        self.name(owner, "service", owner);
        if owner == "init" || owner == "nexus-init" || owner == "neuron" {
            self.add(owner, owner, format!("the name `{owner}` is reserved"));
        }
        self.name(owner, "binary", &service.binary);
        if service.rank > RANK_MAX {
            self.add(owner, "rank", format!("the rank is above RANK_MAX ({RANK_MAX})"));
        }
        self.count(owner, "serves", service.endpoints.len(), ENDPOINTS_MAX, "ENDPOINTS_MAX");
        self.count(owner, "calls", service.calls.len(), CALLS_MAX, "CALLS_MAX");
        self.count(owner, "devices", service.devices.len(), DEVICES_MAX, "DEVICES_MAX");
        self.count(owner, "files", service.files.len(), FILES_MAX, "FILES_MAX");
        for file in &service.files {
            self.name(owner, "file", file);
        }
        for endpoint in &service.endpoints {
            self.endpoint(owner, endpoint);
        }
        if let Some(ids) = service.creates_processes {
            if service.condition.is_none() {
                let message =
                    "processes that the recipe does not name: only with a boot argument (`only_with`)";
                self.add(owner, "creates_processes", message.into());
            }
            if ids.first == 0 || ids.first > ids.last {
                let message = "a range of ids begins above 0 and does not end before it begins";
                self.add(owner, "creates_processes", message.into());
            }
        }
        for device in &service.devices {
            self.name(owner, "device", &device.name);
            if device.compatible.is_empty() || device.compatible.len() > 2 * NAME_BYTES_MAX {
                self.add(
                    owner,
                    &device.name,
                    format!("the device `{}` has no usable `compatible`", device.name),
                );
            }
            if device.dma_pages > DEVICE_PAGES_MAX {
                let message = format!("`dma_pages` is above DEVICE_PAGES_MAX ({DEVICE_PAGES_MAX})");
                self.add(owner, &device.name, message);
            }
        }
        if let Restart::Always { budget } = service.restart
            && (budget == 0 || budget > RESTART_BUDGET_MAX)
        {
            let message =
                format!("the restart budget is 0 or above RESTART_BUDGET_MAX ({RESTART_BUDGET_MAX})");
            self.add(owner, "restart_budget", message);
        }
        if service.ready_ms == 0 {
            self.add(owner, "ready_ms", "a service needs time to become ready: `ready_ms` is 0".into());
        }
        if (1..HEARTBEAT_MS_MIN).contains(&service.heartbeat_ms) {
            let message = format!("`heartbeat_ms` is below HEARTBEAT_MS_MIN ({HEARTBEAT_MS_MIN})");
            self.add(owner, "heartbeat_ms", message);
        }
        self.limits(owner, &service.limits);
    }

    fn count(&mut self, service: &str, word: &str, count: usize, maximum: usize, limit: &str) {
        if count > maximum {
            self.add(service, word, format!("{count} entries of `{word}` are more than {limit} ({maximum})"));
        }
    }

    fn limits(&mut self, service: &str, limits: &Limits) {
        let rules = [
            ("memory_pages", limits.memory_pages, 8, MEMORY_PAGES_MAX),
            ("stack_pages", limits.stack_pages, 1, STACK_PAGES_MAX),
            ("capabilities", limits.capabilities, 8, CAPABILITIES_MAX),
            ("open_calls", limits.open_calls, 0, OPEN_CALLS_MAX),
        ];
        for (word, value, minimum, maximum) in rules {
            if value < minimum || value > maximum {
                self.add(service, word, format!("`{word}` is {value}, outside {minimum} to {maximum}"));
            }
        }
    }

    fn endpoint(&mut self, service: &str, endpoint: &Endpoint) {
        let name = endpoint.name.as_str();
        self.name(service, "endpoint", name);
        if endpoint.max_bytes > MESSAGE_BYTES_MAX {
            self.add(service, name, format!("`max_bytes` is above MESSAGE_BYTES_MAX ({MESSAGE_BYTES_MAX})"));
        }
        if endpoint.max_capabilities > MESSAGE_CAPABILITIES_MAX {
            let limit = MESSAGE_CAPABILITIES_MAX;
            self.add(service, name, format!("`max_caps` is above MESSAGE_CAPABILITIES_MAX ({limit})"));
        }
        if endpoint.board_pages > BOARD_PAGES_MAX {
            self.add(service, name, format!("`board_pages` is above BOARD_PAGES_MAX ({BOARD_PAGES_MAX})"));
        }
        if endpoint.operations.is_empty() {
            self.add(service, name, format!("the endpoint `{name}` answers no operation"));
        }
        self.count(service, name, endpoint.operations.len(), OPERATIONS_MAX, "OPERATIONS_MAX");
        for (place, operation) in endpoint.operations.iter().enumerate() {
            self.name(service, "operation", operation);
            if endpoint.operations.iter().take(place).any(|earlier| earlier == operation) {
                self.add(service, operation, format!("the endpoint `{name}` names `{operation}` twice"));
            }
        }
    }

    fn uniqueness(&mut self, manifest: &Manifest, index: usize, service: &Service) {
        let earlier = || manifest.services.iter().take(index);
        if earlier().any(|other| other.name == service.name) {
            self.add(&service.name, &service.name, format!("there are two services `{}`", service.name));
        }
        for (place, endpoint) in service.endpoints.iter().enumerate() {
            let own = service.endpoints.iter().take(place);
            let others = earlier().flat_map(|other| other.endpoints.iter());
            let mut all = own.chain(others).chain(core::iter::once(&manifest.init.endpoint));
            if all.any(|other| other.name == endpoint.name) {
                self.add(
                    &service.name,
                    &endpoint.name,
                    format!("there are two endpoints `{}`", endpoint.name),
                );
            }
        }
        if service.reads_logs.is_some() && earlier().any(|other| other.reads_logs == service.reads_logs) {
            let message = "there are two who read the log rings in this part";
            self.add(&service.name, "reads_logs", message.into());
        }
        for (place, device) in service.devices.iter().enumerate() {
            if service.devices.iter().take(place).any(|other| other.name == device.name) {
                self.add(&service.name, &device.name, format!("there are two devices `{}`", device.name));
            }
        }
    }

    /// Calls go strictly down in rank, which also rules out every cycle.
    fn access(
        &mut self,
        manifest: &Manifest,
        (caller, rank, calls): (&str, u32, &[Access]),
        access: &Access,
    ) {
        let name = access.endpoint.as_str();
        let Some((server, endpoint)) = manifest.endpoint(name) else {
            self.add(caller, name, format!("no service serves an endpoint `{name}`"));
            return;
        };
        let server_rank = server.map_or(manifest.init.rank, |server| server.rank);
        let server_name = server.map_or("init", |server| server.name.as_str());
        if server_rank >= rank {
            let message = format!(
                "`{caller}` (rank {rank}) may not call `{name}` of `{server_name}` (rank {server_rank}): calls go \
                 strictly down in rank, else two services could wait for each other"
            );
            self.add(caller, name, message);
        }
        if access.operations == 0 || access.operations & !endpoint.all_operations() != 0 {
            self.add(caller, name, format!("`{name}` is called with none or with unknown operations"));
        }
        if calls.iter().filter(|other| other.endpoint == access.endpoint).count() > 1 {
            self.add(caller, name, format!("`{name}` stands twice among the calls"));
        }
    }
}

/// Whether this can be a name: it ends up in log lines, file tables and capability names.
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= NAME_BYTES_MAX
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.')
}
