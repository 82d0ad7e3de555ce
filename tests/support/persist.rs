//! The persist directories of `tests/fixtures/persist` and their contents.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use tempfile::TempDir;

/// The Chroma versions that wrote them.
pub const PERSIST_FIXTURES: [&str; 2] = ["0.5.23-metalag", "1.5.9"];

/// The folder of the archives, relative to the root of the repository or a package below it.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("tests/fixtures/persist"))
        .find(|dir| dir.is_dir())
        .unwrap()
}

/// A copy of a persist directory, with its expected contents.
pub struct PersistFixture {
    directory: TempDir,
    pub expected: Json,
}

impl PersistFixture {
    pub fn unpack(name: &str) -> Self {
        let archive = fixtures().join(format!("{name}.tar.gz"));
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(archive).unwrap())
            .read_to_end(&mut bytes)
            .unwrap();
        untar(&bytes, directory.path());
        let expected = std::fs::read(directory.path().join("expected.json")).unwrap();
        Self {
            expected: serde_json::from_slice(&expected).unwrap(),
            directory,
        }
    }

    pub fn dir(&self) -> PathBuf {
        self.directory.path().join("persist")
    }

    pub fn database(&self) -> PathBuf {
        self.dir().join("chroma.sqlite3")
    }

    pub fn collections(&self) -> &[Json] {
        self.expected["collections"].as_array().unwrap()
    }

    /// The collection with this name in the default database.
    pub fn collection(&self, name: &str) -> &Json {
        let is_it = |collection: &&Json| {
            collection["name"] == name && collection["database"] == "default_database"
        };
        self.collections().iter().find(is_it).unwrap()
    }

    /// The segment directory of a collection.
    pub fn segment(&self, name: &str) -> PathBuf {
        let segment = self.collection(name)["vector_segment"].as_str().unwrap();
        self.dir().join(segment)
    }
}

/// Unpacks regular files and directories from an archive in the ustar format.
fn untar(mut bytes: &[u8], target: &Path) {
    const BLOCK: usize = 512;
    let text = |field: &[u8]| {
        let end = field
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(field.len());
        String::from_utf8(field[..end].to_vec()).unwrap()
    };
    while bytes.len() >= BLOCK && bytes[0] != 0 {
        let (header, rest) = bytes.split_at(BLOCK);
        let path = target.join(text(&header[..100]));
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).unwrap();
        match header[156] {
            b'5' => std::fs::create_dir_all(&path).unwrap(),
            b'0' => std::fs::write(&path, &rest[..size]).unwrap(),
            kind => panic!("an entry of kind {kind}"),
        }
        bytes = &rest[size.next_multiple_of(BLOCK)..];
    }
}

/// The components of a vector in `expected.json`.
pub fn vector(json: &Json) -> Vec<f32> {
    let component = |json: &Json| match json {
        Json::Number(number) => number.as_f64().unwrap() as f32,
        Json::Object(special) => match (special.get("bits"), special["$f32"].as_str().unwrap()) {
            (Some(bits), _) => {
                f32::from_bits(u32::from_str_radix(bits.as_str().unwrap(), 16).unwrap())
            }
            (None, name) => name.parse().unwrap(),
        },
        other => panic!("{other}"),
    };
    json.as_array().unwrap().iter().map(component).collect()
}

/// The vector that a reader must return, bit for bit.
pub fn expected_vector(record: &Json) -> Vec<f32> {
    let given = vector(&record["given"]);
    let in_index = record["vector_in"] == "index";
    match &record["get"] {
        Json::Array(_) if in_index => vector(&record["get"]),
        _ => given,
    }
}

/// The metadata that a reader must return, as canonical JSON; `None` for no metadata.
pub fn expected_metadata(typed: &Json) -> Option<String> {
    let pairs = typed.as_object().filter(|pairs| !pairs.is_empty())?;
    let mut keys: Vec<_> = pairs.keys().collect();
    keys.sort();
    let values = keys.into_iter().map(|key| {
        let value = typed_json(pairs[key][0].as_str().unwrap(), &pairs[key][1]);
        format!("{}:{value}", Json::from(key.as_str()))
    });
    Some(format!("{{{}}}", values.collect::<Vec<_>>().join(",")))
}

/// A typed value of `expected.json` as JSON.
pub fn typed_json(kind: &str, value: &Json) -> String {
    if let Some(element) = kind
        .strip_prefix("list[")
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let elements = value.as_array().unwrap().iter();
        let elements = elements.map(|value| typed_json(element, value));
        return format!("[{}]", elements.collect::<Vec<_>>().join(","));
    }
    match kind {
        "str" | "bool" => value.to_string(),
        "int" => value.as_str().unwrap().to_string(),
        "float" => {
            let number: f64 = value.as_str().unwrap().parse().unwrap();
            match number {
                f64::INFINITY => "\"Infinity\"".into(),
                f64::NEG_INFINITY => "\"-Infinity\"".into(),
                // SQLite has no negative zero.
                number => format!("{:?}", number + 0.0),
            }
        }
        other => panic!("{other}"),
    }
}

/// The database of a fixture without its contents, as Chroma creates it.
pub fn empty_database_of(fixture: &str) -> Vec<u8> {
    let fixture = PersistFixture::unpack(fixture);
    let database = rusqlite::Connection::open(fixture.database()).unwrap();
    let names: Vec<String> = {
        let mut names = database
            .prepare("SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE TABLE%'")
            .unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap();
        names.map(Result::unwrap).collect()
    };
    let emptied = names
        .iter()
        .filter(|name| *name != "migrations" && !name.starts_with("embedding_fulltext"));
    database
        .execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM embedding_fulltext_search")
        .unwrap();
    for name in emptied {
        let delete = format!("DELETE FROM \"{name}\"");
        database.execute_batch(&delete).unwrap();
    }
    database
        .execute_batch(
            "INSERT INTO tenants VALUES ('default_tenant');
             INSERT INTO databases VALUES ('00000000-0000-0000-0000-000000000000',
                 'default_database', 'default_tenant');
             VACUUM;",
        )
        .unwrap();
    drop(database);
    std::fs::read(fixture.database()).unwrap()
}
