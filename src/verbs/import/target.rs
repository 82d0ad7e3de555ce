//! The collections that an import creates or extends.

use std::collections::BTreeMap;
use std::path::Path;

use super::records::Incoming;
use super::source::Sources;
use super::{ImportOptions, ImportOrigin, ImportSummary, ImportedCollection, ListForm, OnConflict};
use crate::base::path::display_path;
use crate::base::progress::Monitor;
use crate::error::{Error, Result};
use crate::segment::write::{DEFAULT_EF_CONSTRUCTION, DEFAULT_M};
use crate::store::catalog::{
    Collection, Segment, Space, SpaceSource, SpaceStatement, DEFAULT_DATABASE, DEFAULT_TENANT,
    LOCAL_INDEX,
};
use crate::store::collection::{Added, Row};
use crate::store::metadata::{Map, Value};
use crate::store::write::{new_uuid, NewCollection};
use crate::verbs::collections::{CollectionFinding, Persist};
use crate::verbs::repair::store::{
    AddedCounts, Addition, RepairStoreSummary, RepairedStoreCollection,
};

/// Longest name of a collection, from Chroma 1.0 on and before.
const MAX_NAME: (usize, usize) = (512, 63);

/// Estimated bytes of a record in the database, besides its vector.
const BYTES_PER_RECORD: u64 = 2048;

/// Tenant, database and name of a collection.
type Key = (String, String, String);

/// All collections that get records, by tenant, database and name.
pub(super) struct Targets<'s>(BTreeMap<Key, Target<'s>>);

struct Target<'s> {
    collection: Collection,
    /// `None` if the store has the collection.
    new: Option<NewCollection>,
    dimension: Option<usize>,
    joining: Joining<'s>,
}

impl<'s> Targets<'s> {
    /// Finds the target of each source, and fails if one cannot take its records.
    pub(super) fn new(
        into: &Persist<'_>,
        incoming: Vec<Incoming<'s>>,
        options: &ImportOptions,
    ) -> Result<Self> {
        let is_rust = into.catalog.schema.get("metadb").copied().unwrap_or(0) >= INTEGER_SEQ_IDS;
        for old in options.rename.keys() {
            if !incoming.iter().any(|source| source.name == *old) {
                return Err(Error::argument(
                    "rename",
                    old,
                    "the name of a collection of the sources",
                ));
            }
        }
        let mut targets = BTreeMap::<Key, Target<'s>>::new();
        for source in incoming {
            let renamed = options.rename.get(&source.name);
            let name = renamed.unwrap_or(&source.name).clone();
            let or = |option: &Option<String>, own: &Option<String>, default: &str| {
                let found = option.clone().or_else(|| own.clone());
                found.unwrap_or_else(|| default.into())
            };
            let tenant = or(&options.tenant, &source.tenant, DEFAULT_TENANT);
            let database = or(&options.database, &source.database, DEFAULT_DATABASE);
            let key = (tenant, database, name);
            let target = match targets.get_mut(&key) {
                Some(target) => target,
                None => {
                    let mut target = Target::new(&key, &source, into, options, is_rust)?;
                    let is_new = target.new.is_some();
                    let mut others = targets.values().map(|other| &other.collection);
                    let id = &target.collection.id;
                    // Copies of a collection that was renamed have the same id.
                    if is_new && others.any(|other| other.id == *id) {
                        target.collection.id = new_uuid();
                    }
                    targets.entry(key).or_insert(target)
                }
            };
            target.join(source)?;
        }
        Ok(Self(targets))
    }

    /// Returns the collections that the store does not have.
    pub(super) fn new_collections(&self) -> Vec<Collection> {
        let new = self.0.values().filter(|target| target.new.is_some());
        new.map(|target| target.collection.clone()).collect()
    }

    /// Returns the records that join each collection.
    pub(super) fn additions(&mut self, options: &ImportOptions) -> Vec<Addition<'_>> {
        let targets = self.0.values_mut();
        targets
            .map(|target| {
                let expected = target.joining.expected();
                let vector = target.dimension.unwrap_or_default() as u64 * 4;
                Addition {
                    collection: target.collection.id.clone(),
                    records: &mut target.joining,
                    expected,
                    // The vector is in a temporary file first, and then in the segment.
                    bytes: expected.saturating_mul(vector.saturating_mul(2) + BYTES_PER_RECORD),
                    dimension: target.dimension,
                    keeps_incomplete: options.keep_incomplete,
                    new: target.new.clone(),
                    counts: AddedCounts::default(),
                }
            })
            .collect()
    }

    /// Describes the import after the store was written, or would have been.
    pub(super) fn summary(
        self,
        sources: &Sources<'_>,
        written: RepairStoreSummary,
        counts: &[AddedCounts],
        options: &ImportOptions,
    ) -> ImportSummary {
        let mut summary = ImportSummary {
            sources: sources.paths().to_vec(),
            into_dir: written.persist_dir,
            output_dir: written.output_dir,
            dry_run: written.dry_run,
            records: written.records,
            imported: 0,
            skipped: 0,
            replaced: 0,
            left_out: 0,
            collections: Vec::new(),
            full_text: written.full_text,
            kept_dir: written.kept_dir,
            undo: written.undo,
            bytes_before: written.bytes_before,
            bytes_after: written.bytes_after,
            findings: sources.findings(),
            warnings: written.warnings,
        };
        for (target, counts) in self.0.into_values().zip(counts) {
            let id = &target.collection.id;
            let found = written.collections.iter().find(|found| found.id == *id);
            if let Some(found) = found {
                let is_dry = written.dry_run;
                let described = target.describe(found, *counts, is_dry, options);
                summary.imported += described.imported;
                summary.skipped += described.skipped;
                summary.replaced += described.replaced;
                if is_dry {
                    summary.records += described.imported;
                }
                if !options.keep_incomplete {
                    summary.left_out += described.without_vector;
                }
                summary.collections.push(described);
            }
        }
        summary
    }
}

/// The `metadb` migration of Chroma 1.0.
pub(super) const INTEGER_SEQ_IDS: i64 = 5;

impl<'s> Target<'s> {
    fn new(
        (tenant, database, name): &Key,
        source: &Incoming<'_>,
        into: &Persist<'_>,
        options: &ImportOptions,
        is_rust: bool,
    ) -> Result<Self> {
        let collections = &into.catalog.collections;
        let joining = Joining {
            sources: Vec::new(),
            on_conflict: options.on_conflict,
            lists: options.lists,
            collection: name.clone(),
            skipped: 0,
        };
        let found = collections.iter().find(|known| {
            known.name == *name && known.database == *database && known.tenant == *tenant
        });
        if let Some(found) = found {
            check_unchanged(found, options)?;
            return Ok(Self {
                collection: found.clone(),
                new: None,
                dimension: found.dimension,
                joining,
            });
        }
        check_name(name, is_rust)?;
        // A renamed collection keeps its id.
        let is_free =
            |id: &&String| is_uuid(id) && !collections.iter().any(|known| known.id == **id);
        let segment = |type_: &str| Segment {
            id: new_uuid(),
            type_: type_.into(),
            watermark: None,
        };
        let own = source.space.unwrap_or(Space::L2);
        let space = options.metric.map_or(own, Into::into);
        let m = options.m.or(source.m);
        let ef_construction = options.ef_construction.or(source.ef_construction);
        let is_changed = space != own
            || options
                .m
                .is_some_and(|m| m != source.m.unwrap_or(DEFAULT_M))
            || options
                .ef_construction
                .is_some_and(|ef| ef != source.ef_construction.unwrap_or(DEFAULT_EF_CONSTRUCTION));
        let mut metadata = source.metadata.clone();
        let is_stated = is_rust || source.is_of_python;
        state(&mut metadata, (space, m, ef_construction), is_stated);
        let new = NewCollection {
            metadata: metadata.clone(),
            stated: source.stated.clone(),
            is_changed,
        };
        Ok(Self {
            collection: Collection {
                id: source
                    .id
                    .as_ref()
                    .filter(is_free)
                    .cloned()
                    .unwrap_or_else(new_uuid),
                rowid: None,
                name: name.clone(),
                database: database.clone(),
                tenant: tenant.clone(),
                dimension: None,
                impossible_dimension: None,
                space_in_metadata: None,
                metadata,
                space: SpaceStatement {
                    space,
                    source: SpaceSource::SegmentMetadata,
                    ..SpaceStatement::default()
                },
                vector_segment: Some(segment(LOCAL_INDEX)),
                metadata_segment: Some(segment("")),
                m,
                ef_construction,
                configured_by_rust: is_rust,
                is_lost: false,
            },
            new: Some(new),
            dimension: source.dimension,
            joining,
        })
    }

    /// Adds a source.
    fn join(&mut self, source: Incoming<'s>) -> Result<()> {
        match (self.dimension, source.dimension) {
            (Some(expected), Some(found)) if expected != found => {
                let name = &self.collection.name;
                return Err(Error::argument(
                    "sources",
                    format!(
                        "vectors of {found} components in {} of {}",
                        source.name,
                        display_path(&source.path)
                    ),
                    format!("{expected} components, as in the collection {name}"),
                ));
            }
            (None, found) => self.dimension = found,
            _ => {}
        }
        self.joining.sources.push(source);
        Ok(())
    }

    fn describe(
        self,
        found: &RepairedStoreCollection,
        counts: AddedCounts,
        is_dry: bool,
        options: &ImportOptions,
    ) -> ImportedCollection {
        let Joining {
            sources, skipped, ..
        } = self.joining;
        let expected: u64 = sources.iter().map(|source| source.expected).sum();
        let without: u64 = sources.iter().map(|source| source.without_vector).sum();
        let left_out = if options.keep_incomplete { 0 } else { without };
        let mut described = ImportedCollection {
            tenant: found.tenant.clone(),
            database: found.database.clone(),
            name: found.name.clone(),
            id: found.id.clone(),
            is_new: self.new.is_some(),
            segment_dir: found.segment_dir.clone(),
            dimension: found.dimension.or(self.dimension),
            metric: found.metric,
            links: found.links,
            records: found.records,
            imported: counts.records,
            skipped,
            replaced: counts.replaced,
            vectors_not_finite: counts.not_finite,
            without_vector: counts.without_vector,
            first_ids_without_vector: found.first_ids_without_vector.clone(),
            origins: Vec::new(),
            findings: Vec::new(),
        };
        if is_dry {
            described.imported = expected.saturating_sub(left_out);
            described.records += described.imported;
            described.without_vector = without;
        }
        for source in sources {
            described.origins.push(ImportOrigin {
                path: source.path,
                collection: source.collection,
                columns: source.columns,
            });
            described.findings.extend(source.findings);
        }
        described
    }
}

/// Fails if an option would change a collection that exists.
fn check_unchanged(found: &Collection, options: &ImportOptions) -> Result<()> {
    let refused = |field, asked: String, has: String| {
        Err(Error::argument(
            field,
            asked,
            format!(
                "{has}, which the collection {} has: rename the imported one to change it",
                found.name
            ),
        ))
    };
    let space = found.space.space;
    if let Some(asked) = options.metric.filter(|asked| Space::from(*asked) != space) {
        return refused("metric", asked.to_string(), space.name().into());
    }
    for (field, asked, has) in [
        ("m", options.m, found.m.unwrap_or(DEFAULT_M)),
        (
            "ef_construction",
            options.ef_construction,
            found.ef_construction.unwrap_or(DEFAULT_EF_CONSTRUCTION),
        ),
    ] {
        if let Some(asked) = asked.filter(|asked| *asked != has) {
            return refused(field, asked.to_string(), has.to_string());
        }
    }
    Ok(())
}

/// Fails unless Chroma allows the name of a collection.
fn check_name(name: &str, is_rust: bool) -> Result<()> {
    let max = if is_rust { MAX_NAME.0 } else { MAX_NAME.1 };
    let is_inner = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let is_end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
    let is_valid = (3..=max).contains(&name.len())
        && name.chars().all(is_inner)
        && is_end(name.chars().next())
        && is_end(name.chars().next_back())
        && !name.contains("..")
        && !is_address;
    if is_valid {
        return Ok(());
    }
    // Bounds the length of the message.
    let shown: String = name.chars().take(100).collect();
    Err(Error::argument(
        "collection",
        format!("{shown:?}, of {} characters", name.chars().count()),
        format!(
            "3 to {max} letters, digits, points, hyphens and underscores, with a letter or digit at \
             both ends, no two points in a row and no IPv4 address: use --rename OLD=NEW"
        ),
    ))
}

fn is_uuid(id: &str) -> bool {
    let is_part = |(part, length): (&str, usize)| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let parts: Vec<_> = id.split('-').collect();
    parts.len() == 5 && parts.into_iter().zip([8, 4, 4, 4, 12]).all(is_part)
}

/// Updates the parameters of a collection that its metadata state. With `is_stated` false, for a
/// Chroma before 1.0, parameters that are not the defaults are added.
fn state(
    metadata: &mut Map,
    (space, m, ef_construction): (Space, Option<u64>, Option<u64>),
    is_stated: bool,
) {
    let number = |value: Option<u64>, default| {
        let value = value.unwrap_or(default);
        let stated = i64::try_from(value).unwrap_or(i64::MAX);
        (Value::Int(stated), value == default)
    };
    let (m, is_default_m) = number(m, DEFAULT_M);
    let (ef, is_default_ef) = number(ef_construction, DEFAULT_EF_CONSTRUCTION);
    for (key, value, is_default) in [
        (
            "hnsw:space",
            Value::Text(space.name().into()),
            space == Space::L2,
        ),
        ("hnsw:M", m, is_default_m),
        ("hnsw:construction_ef", ef, is_default_ef),
    ] {
        if metadata.get(key).is_some() || !is_stated && !is_default {
            metadata.insert(key.into(), value);
        }
    }
}

/// The records of all sources of a collection, in turn.
struct Joining<'s> {
    sources: Vec<Incoming<'s>>,
    on_conflict: OnConflict,
    lists: ListForm,
    collection: String,
    /// Records that were left out, because the collection has their id.
    skipped: u64,
}

impl Joining<'_> {
    fn expected(&self) -> u64 {
        self.sources.iter().map(|source| source.expected).sum()
    }
}

impl Added for Joining<'_> {
    fn replaces(&self) -> bool {
        self.on_conflict == OnConflict::Replace
    }

    fn for_each(
        &mut self,
        monitor: &Monitor<'_>,
        visit: &mut dyn FnMut(&mut Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        let Self {
            sources,
            on_conflict,
            lists,
            collection,
            skipped,
        } = self;
        for source in sources {
            let path = &source.path;
            let found = source.records.for_each(monitor, &mut |row, number| {
                if *lists == ListForm::Json {
                    row.texts.metadata.write_lists_as_json();
                }
                // Stores hold only what a store can hold.
                if let Some(number) = number {
                    if let Some(key) = row.texts.metadata.settle() {
                        return Err(Error::input(
                            path,
                            format!("row {number}, metadata {key}"),
                            "a list that is empty, or of several types".to_string(),
                            "elements of one type: use --lists json to write it as text"
                                .to_string(),
                        ));
                    }
                }
                if visit(row)? {
                    return Ok(());
                }
                if *on_conflict != OnConflict::Skip {
                    return Err(repeated(path, row.id, number, collection, *on_conflict));
                }
                *skipped += 1;
                Ok(())
            })?;
            let findings: &mut Vec<CollectionFinding> = &mut source.findings;
            findings.extend(found);
        }
        Ok(())
    }
}

fn repeated(
    path: &Path,
    id: &str,
    number: Option<u64>,
    collection: &str,
    on_conflict: OnConflict,
) -> Error {
    // Bounds the length of the message.
    let shown: String = id.chars().take(100).collect();
    let found = match number {
        Some(number) => format!("row {number} with the id {shown:?}"),
        None => format!("a record with the id {shown:?}"),
    };
    let found = format!("{found} of {}", display_path(path));
    let expected = match on_conflict {
        OnConflict::Replace => format!("an id that occurs once in the sources for {collection}"),
        _ => format!(
            "an id that the collection {collection} does not have yet: use --on-conflict skip or \
             replace"
        ),
    };
    Error::argument("sources", found, expected)
}
