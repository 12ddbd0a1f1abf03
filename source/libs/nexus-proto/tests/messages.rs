//! Every message comes back as it went, no bytes make a decoder panic, and the declarations agree with the
//! recipe that ships.

use nexus_abi::Handle;
use nexus_ipc::{Bytes, Call, Caller, Message, MessageError, Pending, Status};
use nexus_proto::{block, console, init, keystore, log, peer, policy, pong, rng, state};
use proptest::prelude::*;

fn comes_back<M: Message + PartialEq + std::fmt::Debug>(message: M) {
    let mut bytes = vec![0; M::BYTES_MAX];
    let length = message.encode(&mut bytes).unwrap();
    assert_eq!(M::decode(&bytes[..length]), Ok(message));
}

fn entry() -> impl Strategy<Value = init::ServiceEntry> {
    let state = prop::sample::select(vec![
        init::ServiceState::Stopped,
        init::ServiceState::Waiting,
        init::ServiceState::Starting,
        init::ServiceState::Up,
        init::ServiceState::Restarting,
        init::ServiceState::GivenUp,
        init::ServiceState::NoDevice,
        init::ServiceState::Refused,
    ]);
    ("[a-z]{1,32}", any::<u64>(), any::<u64>(), state, any::<u32>(), "[ -~]{0,80}").prop_map(
        |(name, service_id, process_id, state, restarts, last_end)| init::ServiceEntry {
            name,
            service_id,
            process_id,
            state,
            restarts,
            last_end,
        },
    )
}

fn log_entry() -> impl Strategy<Value = log::Entry> {
    let texts = ("\\PC{0,16}", "\\PC{0,64}", "\\PC{0,64}");
    let places = (any::<u64>(), any::<u64>(), any::<u64>());
    (places, any::<u8>(), any::<u64>(), any::<Option<u64>>(), texts).prop_map(
        |((id, boot, ticks), level, service_id, subject, (scope, message, fields))| log::Entry {
            id,
            boot,
            ticks,
            level,
            service_id,
            subject,
            scope,
            message,
            fields,
        },
    )
}

proptest! {
    #[test]
    fn the_states_messages_come_back_as_they_went(
        key in "/state/\\PC{0,60}",
        (number, expect, operation) in (any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>()),
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..99)), 0..20),
    ) {
        comes_back(state::Key { key: key.clone() });
        comes_back(state::Put { key: key.clone(), bytes: number as u32, expect, operation });
        comes_back(state::Delete { key: key.clone(), expect, operation });
        comes_back(state::Batch { bytes: number as u32, operation });
        comes_back(state::List { prefix: key.clone(), after: Some(key.clone()), limit: 3 });
        comes_back(state::StateError::VersionMismatch { actual: number });
        comes_back(state::Space { bytes: number, keys: !number, ..state::Space::default() });
        let error = Some(state::StateError::Corrupt);
        let listed = state::Listed { key: key.clone(), version: number, bytes: !number, error };
        comes_back(state::Page { entries: vec![listed; values.len()], has_more: true, is_uncertain: false });
        let changes = values.iter().map(|value| state::Change { key: &key, value: value.as_deref(), expect });
        let changes = state::Changes { changes: changes.collect() };
        let bytes = changes.to_bytes().unwrap();
        assert_eq!(state::Changes::from_bytes(&bytes), Ok(changes));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_as_the_states(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = state::Key::decode(&bytes);
        let _ = state::Put::decode(&bytes);
        let _ = state::Delete::decode(&bytes);
        let _ = state::Batch::decode(&bytes);
        let _ = state::List::decode(&bytes);
        let _ = state::Page::decode(&bytes);
        let _ = state::Space::decode(&bytes);
        let _ = state::StateError::decode(&bytes);
        let _ = state::Changes::from_bytes(&bytes);
    }

    #[test]
    fn the_keystores_messages_come_back_as_they_went(
        key in any::<[u8; 32]>(),
        message in prop::collection::vec(any::<u8>(), 0..=keystore::SIGNED_BYTES_MAX),
        machine in "[!-~]{0,64}",
        is_wrapped in any::<bool>(),
    ) {
        let store = keystore::NoIdentity::NoStore(state::NoStore::Blank);
        comes_back(keystore::PublicKey { bytes: key });
        comes_back(keystore::Signature { bytes: [key, key].as_flattened().try_into().unwrap() });
        comes_back(keystore::Signed { key, signature: [key; 2], message });
        for identity in [Ok(()), Err(store), Err(keystore::NoIdentity::BadRoot)] {
            comes_back(keystore::Status { identity, machine: machine.clone(), is_wrapped });
        }
        comes_back(keystore::KeyError::NoIdentity(store));
        comes_back(keystore::KeyError::PrivateExport);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_as_the_keystores(bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        let _ = keystore::PublicKey::decode(&bytes);
        let _ = keystore::Signature::decode(&bytes);
        let _ = keystore::Signed::decode(&bytes);
        let _ = keystore::Status::decode(&bytes);
        let _ = keystore::KeyError::decode(&bytes);
    }

    #[test]
    fn the_journals_messages_come_back_as_they_went(
        entries in prop::collection::vec(log_entry(), 0..20),
        text in "\\PC{0,64}",
        (number, service_id) in (any::<u64>(), any::<Option<u64>>()),
    ) {
        let of_text = || text.clone();
        comes_back(log::Append { level: 3, scope: of_text(), message: of_text(), fields: of_text() });
        comes_back(log::Query { after: number, since: !number, service_id, text: of_text(), ..log::Query::ALL });
        comes_back(log::Page { entries, end: number, has_more: true });
        comes_back(log::Stats { total: number, rate_limited: u64::MAX, ..log::Stats::default() });
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_as_the_journals(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = log::Append::decode(&bytes);
        let _ = log::Query::decode(&bytes);
        let _ = log::Page::decode(&bytes);
        let _ = log::Stats::decode(&bytes);
        let _ = log::LogError::decode(&bytes);
    }

    #[test]
    fn messages_come_back_as_they_went(
        number in any::<u64>(),
        text in "\\PC{0,100}",
        bytes in prop::collection::vec(any::<u8>(), 0..2048),
        entries in prop::collection::vec(entry(), 0..48),
    ) {
        comes_back(pong::Ping { number });
        comes_back(rng::Request { bytes: number });
        comes_back(policy::Verdict { decision: number, epoch: !number, why: 1, lasts: 1 });
        comes_back(policy::Epoch { epoch: number, sequence: 1 });
        comes_back(policy::Pushed { epoch: number, sequence: 1, durable: 1 });
        comes_back(policy::Explanation { text: text.clone() });
        if let Some(question) = policy::Question::new(number, number as u16, &text) {
            assert_eq!(question.resource(), Some(text.as_bytes()));
            comes_back(question);
        }
        comes_back(block::Extent { first: number, blocks: !number });
        comes_back(block::Geometry { blocks: number, unit_bytes: 4096, flags: block::HAS_CACHE });
        comes_back(pong::Pong { number, answered: !number });
        comes_back(peer::Identity { service_id: number, process_id: 1, generation: 2 });
        comes_back(Bytes::<{ console::WRITE_BYTES_MAX }>(bytes));
        comes_back(console::Recent { lines: number as u32 });
        comes_back(init::Services { entries });
        comes_back(init::Target::Process(number));
        comes_back(init::Target::Name(text.clone()));
        comes_back(init::Run { name: text.clone(), arguments: text });
        comes_back(init::Ended { process_id: number, address: !number, ..init::Ended::default() });
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = init::Services::decode(&bytes);
        let _ = init::Target::decode(&bytes);
        let _ = init::Run::decode(&bytes);
        let _ = init::InitError::decode(&bytes);
        let _ = init::Ended::decode(&bytes);
        let _ = console::Recent::decode(&bytes);
        let _ = console::ConsoleError::decode(&bytes);
        let _ = block::BlockError::decode(&bytes);
        let _ = block::Extent::decode(&bytes);
        let _ = pong::Ping::decode(&bytes);
        let _ = rng::Request::decode(&bytes);
        let _ = rng::RngError::decode(&bytes);
        let _ = policy::PolicyError::decode(&bytes);
        let _ = policy::Explanation::decode(&bytes);
        if let Ok(question) = policy::Question::decode(&bytes) {
            let _ = question.resource();
        }
        let _ = peer::Identity::decode(&bytes);
    }

    #[test]
    fn any_call_is_answered_or_refused(operation in any::<u16>(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut pending = Pending::default();
        pong::dispatch(&mut Counter(0), call(operation, &bytes, &mut pending));
        let (label, payload) = pending.answer().unwrap();
        match Status::from_number(label).unwrap() {
            Status::Ok => prop_assert!(operation == 1 && bytes.len() == 8 && payload.len() == 16),
            Status::Malformed => prop_assert!(operation == 1 && bytes.len() != 8),
            other => prop_assert!(operation != 1 && other == Status::UnknownOperation),
        }
    }
}

struct Counter(u64);

impl pong::Server for Counter {
    fn ping(&mut self, _caller: Caller, request: pong::Ping) -> Result<pong::Pong, ()> {
        self.0 += 1;
        Ok(pong::Pong { number: request.number, answered: self.0 })
    }
}

fn call<'a>(operation: u16, payload: &'a [u8], pending: &'a mut Pending) -> Call<'a> {
    let caller = Caller { service_id: 1, process_id: 2, badge: 0 };
    Call::new(caller, operation, payload, Handle::new(9, 1), pending)
}

#[test]
fn test_reject_messages_beyond_their_maximum() {
    let long = init::Run { name: "x".repeat(init::REQUEST_BYTES_MAX), arguments: String::new() };
    let mut room = vec![0; 2 * init::REQUEST_BYTES_MAX];
    assert_eq!(long.encode(&mut room), Err(MessageError::TooLarge));
    assert_eq!(init::Run::decode(&room), Err(MessageError::Malformed));
    assert_eq!(Bytes::<4>(vec![0; 5]).encode(&mut room), Err(MessageError::TooLarge));
    assert_eq!(Bytes::<4>::decode(&[0; 5]), Err(MessageError::Malformed));
}

#[test]
fn the_largest_entry_takes_no_more_than_its_texts_and_the_overhead() {
    let text = |bytes: usize| "x".repeat(bytes);
    let (scope, message, fields) = (text(64), text(256), text(512));
    let [id, boot, ticks, service_id] = [u64::MAX; 4];
    let subject = Some(u64::MAX);
    let texts = scope.len() + message.len() + fields.len();
    let entry = log::Entry { id, boot, ticks, level: u8::MAX, service_id, subject, scope, message, fields };
    let page = log::Page { entries: vec![entry], end: u64::MAX, has_more: true };
    let mut bytes = vec![0; log::PAGE_BYTES_MAX];
    assert!(page.encode(&mut bytes).unwrap() <= texts + log::ENTRY_OVERHEAD);
}

#[test]
fn the_largest_page_of_keys_and_the_longest_listing_fit_their_messages() {
    let key = || "x".repeat(state::KEY_BYTES_MAX);
    let error = Some(state::StateError::VersionMismatch { actual: u64::MAX });
    let listed = state::Listed { key: key(), version: u64::MAX, bytes: u64::MAX, error };
    let page =
        state::Page { entries: vec![listed; state::PAGE_KEYS_MAX], has_more: true, is_uncertain: true };
    comes_back(page);
    comes_back(state::List { prefix: key(), after: Some(key()), limit: u32::MAX });
    let (expect, operation) = (Some(u64::MAX), Some(u64::MAX));
    comes_back(state::Put { key: key(), bytes: u32::MAX, expect, operation });
}

#[test]
fn test_reject_batches_of_too_many_changes_before_memory_is_taken_for_them() {
    let change = state::Change { key: "/state/a", value: None, expect: None };
    let changes = |count| state::Changes { changes: vec![change; count] }.to_bytes().unwrap();
    let most = state::BATCH_CHANGES_MAX;
    assert!(state::Changes::from_bytes(&changes(most)).is_ok());
    assert_eq!(state::Changes::from_bytes(&changes(most + 1)), Err(state::BadChanges::TooMany));
    assert_eq!(state::Changes::from_bytes(&[0xff, 0xff, 0xff, 0xff, 0xf]), Err(state::BadChanges::TooMany));
    let good = changes(3);
    assert_eq!(state::Changes::from_bytes(&good[..good.len() - 1]), Err(state::BadChanges::Malformed));
    assert_eq!(state::Changes::from_bytes(&[&good[..], &[0]].concat()), Err(state::BadChanges::Malformed));
}

#[test]
fn test_reject_questions_of_a_second_form() {
    let good = policy::Question::new(1, 2, "/a").unwrap();
    assert_eq!(good.resource(), Some(&b"/a"[..]));
    assert_eq!(policy::Question { length: 1, ..good }.resource(), None);
    assert_eq!(policy::Question { length: 53, ..good }.resource(), None);
    assert_eq!(policy::Question::new(1, 2, &"x".repeat(policy::RESOURCE_BYTES_MAX + 1)), None);
    assert_eq!(policy::Question::decode(&[0; 63]), Err(MessageError::Malformed));
}

#[test]
fn test_reject_bytes_behind_a_message() {
    assert_eq!(console::Recent::decode(&[1, 0]), Err(MessageError::Malformed));
    assert_eq!(<()>::decode(&[0]), Err(MessageError::Malformed));
}

#[test]
fn declarations_and_recipe_agree_on_operations_and_sizes() {
    let recipe = include_str!("../../../../recipes/system.toml");
    let bytes = system_manifest::compile(recipe, "recipes/system.toml").unwrap();
    let manifest = system_manifest::decode(&bytes).unwrap();
    for service in nexus_proto::SERVICES {
        let (_, endpoint) = manifest.endpoint(service.endpoint).unwrap();
        let declared: Vec<&str> = service.operations.iter().map(|operation| operation.name).collect();
        assert_eq!(endpoint.operations, declared, "operations of `{}`", service.endpoint);
        assert_eq!(endpoint.max_bytes as usize, service.max_bytes, "`max_bytes` of `{}`", service.endpoint);
        for (place, operation) in service.operations.iter().enumerate() {
            assert_eq!(usize::from(operation.number), place + 1, "number of `{}`", operation.name);
        }
    }
    let endpoints = manifest.services.iter().map(|service| service.endpoints.len()).sum::<usize>() + 1;
    assert_eq!(endpoints, nexus_proto::SERVICES.len(), "an endpoint of the recipe has no declaration");
}

#[test]
fn the_reference_page_names_every_operation() {
    for service in nexus_proto::SERVICES {
        let page = service.to_string();
        assert!(service.operations.iter().all(|operation| page.contains(&format!("`{}`", operation.name))));
    }
}
