//! The shape of `recipes/system.toml`, with its defaults.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceManifest {
    /// Names of the ranks, lowest first.
    pub ranks: Vec<String>,
    pub init: SourceInit,
    #[serde(default, rename = "service")]
    pub services: Vec<SourceService>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceInit {
    pub rank: Spanned<String>,
    pub serves: BTreeMap<String, SourceEndpoint>,
    #[serde(default)]
    pub calls: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceService {
    pub name: Spanned<String>,
    pub binary: Option<String>,
    pub rank: Spanned<String>,
    #[serde(default = "default_start")]
    pub start: Spanned<String>,
    pub only_with: Option<String>,
    #[serde(default = "default_restart")]
    pub restart: Spanned<String>,
    #[serde(default = "default_restart_budget")]
    pub restart_budget: u32,
    #[serde(default = "default_ready_ms")]
    pub ready_ms: u32,
    #[serde(default)]
    pub heartbeat_ms: u32,
    #[serde(default = "default_qos")]
    pub qos: Spanned<String>,
    #[serde(default)]
    pub affinity: Vec<Spanned<u32>>,
    #[serde(default)]
    pub limits: SourceLimits,
    #[serde(default)]
    pub serves: BTreeMap<String, SourceEndpoint>,
    #[serde(default)]
    pub calls: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    pub devices: BTreeMap<Spanned<String>, SourceDevice>,
    #[serde(default)]
    pub control: Vec<Spanned<String>>,
    pub reads_logs: Option<Spanned<String>>,
    #[serde(default)]
    pub files: Vec<String>,
    #[serde(default)]
    pub audits: bool,
    #[serde(default)]
    pub creates_processes: Option<SourceServiceIds>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceServiceIds {
    pub first: u64,
    pub last: u64,
}

/// A device by its `compatible` alone, or with what else there is to say.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum SourceDevice {
    Compatible(String),
    Full(SourceDeviceNeed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceDeviceNeed {
    pub compatible: Option<String>,
    pub virtio: Option<String>,
    #[serde(default)]
    pub optional: bool,
    #[serde(default)]
    pub dispensable: bool,
    #[serde(default)]
    pub dma_pages: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEndpoint {
    pub max_bytes: u32,
    #[serde(default)]
    pub max_caps: u32,
    #[serde(default)]
    pub board_pages: u32,
    pub operations: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SourceLimits {
    pub memory_pages: u32,
    pub stack_pages: u32,
    pub capabilities: u32,
    pub open_calls: u32,
}

impl Default for SourceLimits {
    fn default() -> Self {
        SourceLimits { memory_pages: 256, stack_pages: 16, capabilities: 64, open_calls: 16 }
    }
}

fn default_start() -> Spanned<String> {
    Spanned::new(0..0, "boot".into())
}

fn default_restart() -> Spanned<String> {
    Spanned::new(0..0, "always".into())
}

fn default_restart_budget() -> u32 {
    20
}

fn default_ready_ms() -> u32 {
    20_000
}

fn default_qos() -> Spanned<String> {
    Spanned::new(0..0, "normal".into())
}
