//! From `recipes/system.toml` to the manifest's bytes. Every refusal names file, line and, where one is
//! near, the word that was probably meant.

mod source;

use crate::check::{Problem, check};
use crate::model::{
    Access, ControlRights, DeviceNeed, Endpoint, Init, Limits, LogReader, Manifest, Restart, Service,
    ServiceIds, StartPolicy, Urgency, VIRTIO_DEVICES,
};
use crate::wire::encode;
use source::{SourceDevice, SourceEndpoint, SourceManifest, SourceService};
use std::collections::BTreeMap;
use std::fmt;
use std::string::{String, ToString};
use std::vec::Vec;
use toml::Spanned;

/// Ranks in numbers are this far apart, so that a signed overlay can put one between.
const RANK_STEP: u32 = 100;
/// Harts that the kernel can run: its `HARTS_MAX`.
const HARTS_MAX: u32 = 8;
/// The `compatible` of a slot in which any virtio device may stand.
const VIRTIO_SLOT: &str = "virtio,mmio";

/// Why a recipe is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// The file.
    pub file: String,
    /// The line, beginning with 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(formatter, " (did you mean `{suggestion}`?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CompileError {}

/// Compiles the text of a recipe; `file_name` is only for messages.
pub fn compile(text: &str, file_name: &str) -> Result<Vec<u8>, CompileError> {
    let compiler = Compiler { text, file_name };
    let source: SourceManifest = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        compiler.error(offset, error.message().to_string(), None)
    })?;
    let manifest = compiler.manifest(&source)?;
    if let Some(problem) = check(&manifest).into_iter().next() {
        return Err(compiler.problem(&source, problem));
    }
    encode(&manifest).map_err(|error| compiler.error(0, error.to_string(), None))
}

struct Compiler<'a> {
    text: &'a str,
    file_name: &'a str,
}

impl Compiler<'_> {
    fn error(&self, offset: usize, message: String, suggestion: Option<String>) -> CompileError {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        CompileError { file: self.file_name.to_string(), line, message, suggestion }
    }

    /// A word that is none of `known`.
    fn unknown<'k>(
        &self,
        word: &Spanned<String>,
        what: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> CompileError {
        let message = format!("unknown {what} `{}`", word.get_ref());
        self.error(word.span().start, message, nearest(word.get_ref(), known))
    }

    /// Turns a problem of the finished manifest into a place in the file: the first line at or below the
    /// service's name that has the word in it.
    fn problem(&self, source: &SourceManifest, problem: Problem) -> CompileError {
        // The last service of this name, since of two with one name the later is at fault.
        let named = source.services.iter().rev().find(|service| *service.name.get_ref() == problem.service);
        let start = named.map_or(0, |service| service.name.span().start);
        let offset = self.text.get(start..).and_then(|rest| rest.find(&problem.word)).unwrap_or(0);
        self.error(start + offset, problem.message, None)
    }

    fn manifest(&self, source: &SourceManifest) -> Result<Manifest, CompileError> {
        let endpoint_of = |(name, endpoint): (&String, &SourceEndpoint)| self.endpoint(name, endpoint);
        let init_endpoint = match (source.init.serves.len(), source.init.serves.iter().next()) {
            (1, Some(entry)) => endpoint_of(entry),
            _ => {
                return Err(self.error(
                    source.init.rank.span().start,
                    "init serves exactly one endpoint".into(),
                    None,
                ));
            }
        };
        let endpoints: BTreeMap<String, Endpoint> = source
            .services
            .iter()
            .flat_map(|service| service.serves.iter())
            .map(endpoint_of)
            .chain([init_endpoint.clone()])
            .map(|endpoint| (endpoint.name.clone(), endpoint))
            .collect();
        let init = Init {
            rank: self.rank(source, &source.init.rank)?,
            endpoint: init_endpoint,
            calls: self.calls(&endpoints, &source.init.calls)?,
        };
        let services = source
            .services
            .iter()
            .map(|service| self.service(source, &endpoints, service))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Manifest { init, services })
    }

    fn endpoint(&self, name: &str, source: &SourceEndpoint) -> Endpoint {
        Endpoint {
            name: name.to_string(),
            max_bytes: source.max_bytes,
            max_capabilities: source.max_caps,
            board_pages: source.board_pages,
            operations: source.operations.clone(),
        }
    }

    fn rank(&self, source: &SourceManifest, word: &Spanned<String>) -> Result<u32, CompileError> {
        match source.ranks.iter().position(|rank| rank == word.get_ref()) {
            Some(place) => Ok((place as u32 + 1) * RANK_STEP),
            None => Err(self.unknown(word, "rank", source.ranks.iter().map(String::as_str))),
        }
    }

    fn service(
        &self,
        source: &SourceManifest,
        endpoints: &BTreeMap<String, Endpoint>,
        service: &SourceService,
    ) -> Result<Service, CompileError> {
        let name = service.name.get_ref();
        Ok(Service {
            name: name.clone(),
            binary: service.binary.clone().unwrap_or_else(|| name.clone()),
            rank: self.rank(source, &service.rank)?,
            start: self.choice(
                &service.start,
                "start",
                &[("boot", StartPolicy::Boot), ("on-demand", StartPolicy::OnDemand)],
            )?,
            condition: service.only_with.clone(),
            restart: self.choice(
                &service.restart,
                "restart",
                &[("always", Restart::Always { budget: service.restart_budget }), ("never", Restart::Never)],
            )?,
            ready_ms: service.ready_ms,
            heartbeat_ms: service.heartbeat_ms,
            urgency: self.choice(
                &service.qos,
                "qos",
                &[
                    ("idle", Urgency::Idle),
                    ("normal", Urgency::Normal),
                    ("interactive", Urgency::Interactive),
                    ("perf-burst", Urgency::PerfBurst),
                ],
            )?,
            affinity: self.affinity(&service.affinity)?,
            limits: Limits {
                memory_pages: service.limits.memory_pages,
                stack_pages: service.limits.stack_pages,
                capabilities: service.limits.capabilities,
                open_calls: service.limits.open_calls,
            },
            endpoints: service.serves.iter().map(|(name, endpoint)| self.endpoint(name, endpoint)).collect(),
            calls: self.calls(endpoints, &service.calls)?,
            devices: service
                .devices
                .iter()
                .map(|(name, device)| self.device(name, device))
                .collect::<Result<Vec<_>, _>>()?,
            control: self.control(&service.control)?,
            files: service.files.clone(),
            reads_logs: service
                .reads_logs
                .as_ref()
                .map(|word| {
                    let known = [("console", LogReader::Console), ("journal", LogReader::Journal)];
                    self.choice(word, "reads_logs", &known)
                })
                .transpose()?,
            audits: service.audits,
            creates_processes: service
                .creates_processes
                .as_ref()
                .map(|ids| ServiceIds { first: ids.first, last: ids.last }),
        })
    }

    fn device(&self, name: &Spanned<String>, source: &SourceDevice) -> Result<DeviceNeed, CompileError> {
        let need = |compatible: &str| DeviceNeed {
            name: name.get_ref().clone(),
            compatible: compatible.into(),
            virtio: None,
            optional: false,
            dispensable: false,
            dma_pages: 0,
        };
        let source = match source {
            SourceDevice::Compatible(compatible) => return Ok(need(compatible)),
            SourceDevice::Full(source) => source,
        };
        let (compatible, virtio) = match (&source.compatible, &source.virtio) {
            (Some(compatible), None) => (compatible.as_str(), None),
            (None, Some(word)) => {
                let word = Spanned::new(name.span(), word.clone());
                (VIRTIO_SLOT, Some(self.choice(&word, "virtio", VIRTIO_DEVICES)?))
            }
            _ => {
                let message = format!("the device `{}` has either `compatible` or `virtio`", name.get_ref());
                return Err(self.error(name.span().start, message, None));
            }
        };
        let (optional, dispensable) = (source.optional, source.dispensable);
        Ok(DeviceNeed { virtio, optional, dispensable, dma_pages: source.dma_pages, ..need(compatible) })
    }

    fn calls(
        &self,
        endpoints: &BTreeMap<String, Endpoint>,
        calls: &BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    ) -> Result<Vec<Access>, CompileError> {
        calls.iter().map(|(endpoint, operations)| self.access(endpoints, endpoint, operations)).collect()
    }

    fn access(
        &self,
        endpoints: &BTreeMap<String, Endpoint>,
        name: &Spanned<String>,
        operations: &[Spanned<String>],
    ) -> Result<Access, CompileError> {
        let known = || endpoints.keys().map(String::as_str);
        let endpoint =
            endpoints.get(name.get_ref()).ok_or_else(|| self.unknown(name, "endpoint", known()))?;
        let mut bits = 0;
        for operation in operations {
            bits |= endpoint.operation_bit(operation.get_ref()).ok_or_else(|| {
                let what = format!("operation of `{}`", endpoint.name);
                self.unknown(operation, &what, endpoint.operations.iter().map(String::as_str))
            })?;
        }
        Ok(Access { endpoint: endpoint.name.clone(), operations: bits })
    }

    fn control(&self, words: &[Spanned<String>]) -> Result<ControlRights, CompileError> {
        let mut rights = ControlRights::default();
        for word in words {
            match word.get_ref().as_str() {
                "log" => rights.log = true,
                "inspect" => rights.inspect = true,
                "reset" => rights.reset = true,
                _ => {
                    return Err(self.unknown(word, "control right", ["log", "inspect", "reset"].into_iter()));
                }
            }
        }
        Ok(rights)
    }

    fn affinity(&self, harts: &[Spanned<u32>]) -> Result<u32, CompileError> {
        harts.iter().try_fold(0, |set, hart| match 1u32.checked_shl(*hart.get_ref()) {
            Some(bit) if *hart.get_ref() < HARTS_MAX && set & bit == 0 => Ok(set | bit),
            _ => {
                let hart_index = hart.get_ref();
                let message = format!(
                    "`affinity` names hart {hart_index}: harts are 0 to {}, each once",
                    HARTS_MAX - 1
                );
                Err(self.error(hart.span().start, message, None))
            }
        })
    }

    fn choice<T: Copy>(
        &self,
        word: &Spanned<String>,
        what: &str,
        known: &[(&str, T)],
    ) -> Result<T, CompileError> {
        let found = known.iter().find(|(name, _)| name == word.get_ref());
        found.map(|(_, value)| *value).ok_or_else(|| {
            let what = format!("value of `{what}`");
            self.unknown(word, &what, known.iter().map(|(name, _)| *name))
        })
    }
}

/// The known word nearest to this one, when it is near enough to be a slip.
fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate.to_string())
}
