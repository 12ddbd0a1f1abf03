//! The engines behind one trait: every `put` and `batch` is durable when it returns.

use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions};
use redb::{ReadableDatabase, TableDefinition};
use statefs::{Batch, Entropy, FileDevice, Geometry, KEYS_MAX_HOST, Options, SharedStore, Store, Write};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What a failed engine says.
pub type Fault = Box<dyn Error + Send + Sync>;

/// Bytes of cache that each engine gets, where it has one to set.
const CACHE: usize = 64 << 20;
/// Bytes of the file that statefs gets, and that LMDB may map.
pub const FILE: u64 = 1536 << 20;

/// A store of keys and values.
pub trait Engine: Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// Sets a key, durably.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault>;
    /// Sets keys, all or none, durably.
    fn batch(&self, changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault>;
    /// Copies a value out; returns whether it is there.
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault>;
    /// Reads all keys with a prefix, and counts them.
    fn scan(&self, prefix: &[u8]) -> Result<usize, Fault>;
}

/// Names of all engines.
pub const NAMES: [&str; 5] = ["statefs", "redb", "sqlite", "sled", "lmdb"];

/// Engines that answer a durable put without a flush of the disk, as its counter shows: their writes are on the
/// way, and a power cut may lose them. They are measured, and not compared with.
pub const WITHOUT_FLUSH: [&str; 1] = ["sled"];

/// Opens an engine in a folder, which is made if there is none.
pub fn open(name: &str, folder: &Path, bytes: u64) -> Result<Box<dyn Engine>, Fault> {
    fs::create_dir_all(folder)?;
    Ok(match name {
        "statefs" => Box::new(Statefs(SharedStore::new(statefs_store(folder, bytes)?))),
        "redb" => Box::new(Redb::open(folder)?),
        "sqlite" => Box::new(Sqlite::open(folder)?),
        "sled" => Box::new(Sled(
            sled::Config::new().path(folder).cache_capacity(CACHE as u64).flush_every_ms(None).open()?,
        )),
        "lmdb" => Box::new(Lmdb::open(folder)?),
        other => return Err(format!("no engine `{other}`").into()),
    })
}

struct Statefs(SharedStore<FileDevice>);

/// The store of statefs in a folder; one of so many bytes, all of them written, if there is none.
pub fn statefs_store(folder: &Path, bytes: u64) -> Result<Store<FileDevice>, Fault> {
    fs::create_dir_all(folder)?;
    let path = folder.join("state");
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos() as u64;
    let entropy = Entropy([seed, !seed, 3, 4]);
    let device = if path.exists() {
        FileDevice::open(&path, 0, None, true)?
    } else {
        let mut device = FileDevice::create(&path, bytes)?;
        let geometry = Geometry::for_device(bytes, 4096)?;
        Store::format(&mut device, geometry, entropy)?;
        device
    };
    let options = Options { keys_max: KEYS_MAX_HOST as u64, ..Options::new(entropy) };
    Ok(Store::open(device, options)?)
}

impl Engine for Statefs {
    fn name(&self) -> &'static str {
        "statefs"
    }
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.0.put(key, value)?;
        Ok(())
    }
    fn batch(&self, changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        // A batch of statefs has at most 256 KiB: larger ones go in parts, each of them all or nothing.
        let parts = changes.chunks(if changes.first().is_some_and(|(_, value)| value.len() > 1024) {
            50
        } else {
            100
        });
        for part in parts {
            let writes: Vec<Write<'_>> =
                part.iter().map(|(key, value)| Write { key, value: Some(value), expect: None }).collect();
            self.0.apply_batch(&Batch { writes: &writes, operation: None })?;
        }
        Ok(())
    }
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault> {
        self.0.store().get_into(key, value)?;
        Ok(true)
    }
    fn scan(&self, prefix: &[u8]) -> Result<usize, Fault> {
        let (mut count, mut after, mut value) = (0, None::<Box<[u8]>>, Vec::new());
        let mut store = self.0.store();
        loop {
            let page = store.list(prefix, after.as_deref(), 256);
            for listed in &page.keys {
                store.get_into(&listed.key, &mut value)?;
                count += 1;
            }
            if !page.more {
                return Ok(count);
            }
            after = page.keys.last().map(|listed| listed.key.clone());
        }
    }
}

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("state");

struct Redb(redb::Database);

impl Redb {
    fn open(folder: &Path) -> Result<Redb, Fault> {
        let database = redb::Builder::new().set_cache_size(CACHE).create(folder.join("state.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
        Ok(Redb(database))
    }
}

impl Engine for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let transaction = self.0.begin_write()?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }
    fn batch(&self, changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in changes {
                table.insert(&key[..], &value[..])?;
            }
        }
        Ok(transaction.commit()?)
    }
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        value.clear();
        let found = table.get(key)?;
        found.as_ref().inspect(|found| value.extend_from_slice(found.value()));
        Ok(found.is_some())
    }
    fn scan(&self, prefix: &[u8]) -> Result<usize, Fault> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let (mut count, mut value) = (0, Vec::new());
        for pair in table.range(prefix..)? {
            let (key, found) = pair?;
            if !key.value().starts_with(prefix) {
                break;
            }
            value.clear();
            value.extend_from_slice(found.value());
            count += 1;
        }
        Ok(count)
    }
}

struct Sqlite(Mutex<rusqlite::Connection>);

impl Sqlite {
    fn open(folder: &Path) -> Result<Sqlite, Fault> {
        let connection = rusqlite::Connection::open(folder.join("state.sqlite"))?;
        let set = format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-{}; \
             CREATE TABLE IF NOT EXISTS state (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID;",
            CACHE >> 10
        );
        connection.execute_batch(&set)?;
        Ok(Sqlite(Mutex::new(connection)))
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, rusqlite::Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PUT: &str = "INSERT INTO state VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";

impl Engine for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.lock().prepare_cached(PUT)?.execute((key, value))?;
        Ok(())
    }
    fn batch(&self, changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(PUT)?;
            for (key, value) in changes {
                statement.execute((key, value))?;
            }
        }
        Ok(transaction.commit()?)
    }
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT value FROM state WHERE key = ?1")?;
        let mut rows = statement.query([key])?;
        let Some(row) = rows.next()? else { return Ok(false) };
        value.clear();
        value.extend_from_slice(row.get_ref(0)?.as_blob()?);
        Ok(true)
    }
    fn scan(&self, prefix: &[u8]) -> Result<usize, Fault> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT key, value FROM state WHERE key >= ?1 ORDER BY key")?;
        let mut rows = statement.query([prefix])?;
        let (mut count, mut value) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            if !row.get_ref(0)?.as_blob()?.starts_with(prefix) {
                break;
            }
            value.clear();
            value.extend_from_slice(row.get_ref(1)?.as_blob()?);
            count += 1;
        }
        Ok(count)
    }
}

struct Sled(sled::Db);

impl Engine for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.0.insert(key, value)?;
        self.0.flush()?;
        Ok(())
    }
    fn batch(&self, changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        let mut batch = sled::Batch::default();
        changes.iter().for_each(|(key, value)| batch.insert(&key[..], &value[..]));
        self.0.apply_batch(batch)?;
        self.0.flush()?;
        Ok(())
    }
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault> {
        value.clear();
        let found = self.0.get(key)?;
        found.as_ref().inspect(|found| value.extend_from_slice(found));
        Ok(found.is_some())
    }
    fn scan(&self, prefix: &[u8]) -> Result<usize, Fault> {
        let (mut count, mut value) = (0, Vec::new());
        for pair in self.0.scan_prefix(prefix) {
            value.clear();
            value.extend_from_slice(&pair?.1);
            count += 1;
        }
        Ok(count)
    }
}

struct Lmdb {
    environment: Env,
    database: Database<Bytes, Bytes>,
}

impl Lmdb {
    #[allow(unsafe_code)]
    fn open(folder: &Path) -> Result<Lmdb, Fault> {
        // SAFETY: no other process, and no second environment of this one, opens the folder.
        let environment = unsafe { EnvOpenOptions::new().map_size(FILE as usize).max_dbs(1).open(folder)? };
        let mut transaction = environment.write_txn()?;
        let database = environment.create_database(&mut transaction, Some("state"))?;
        transaction.commit()?;
        Ok(Lmdb { environment, database })
    }
}

impl Engine for Lmdb {
    fn name(&self) -> &'static str {
        "lmdb"
    }
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        let mut transaction = self.environment.write_txn()?;
        self.database.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }
    fn batch(&self, changes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Fault> {
        let mut transaction = self.environment.write_txn()?;
        for (key, value) in changes {
            self.database.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }
    fn get(&self, key: &[u8], value: &mut Vec<u8>) -> Result<bool, Fault> {
        let transaction = self.environment.read_txn()?;
        value.clear();
        let found = self.database.get(&transaction, key)?;
        found.inspect(|found| value.extend_from_slice(found));
        Ok(found.is_some())
    }
    fn scan(&self, prefix: &[u8]) -> Result<usize, Fault> {
        let transaction = self.environment.read_txn()?;
        let (mut count, mut value) = (0, Vec::new());
        for pair in self.database.prefix_iter(&transaction, prefix)? {
            value.clear();
            value.extend_from_slice(pair?.1);
            count += 1;
        }
        Ok(count)
    }
}
