//! Choice of a collection's metric from the database, the caller and the vectors; checks of the
//! shape that the caller states.

use super::base::{Extent, Records};
use super::{Given, Planner};
use crate::error::{Error, Result};
use crate::segment::evidence::{Evidence, Verdict};
use crate::store::catalog::{Collection, Space, SpaceSource};
use crate::store::space::SpaceStatement;

/// The chosen metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) space: Space,
    pub(crate) source: SpaceSource,
    /// Code and message of a finding about the choice.
    pub(crate) finding: Option<(&'static str, String)>,
}

impl Planner<'_> {
    /// Chooses the metric, and adds a finding for everything that puts it in doubt.
    pub(super) fn choose_metric(&mut self) -> Result<Chosen> {
        let collection = self.origin.collection;
        let unjoined = self.unjoined.as_ref().map(|(records, _)| records);
        let records = self.index.records().or(unjoined);
        let chosen = choose(collection, self.origin.given.space, |extent| {
            records.map_or_else(
                || Ok(Evidence::default()),
                |records| records.evidence(extent, self.monitor),
            )
        })?;
        for unreadable in &collection.space.unreadable {
            self.damaged(
                "configuration-damaged",
                format!("chroma.sqlite3: {unreadable}"),
            );
        }
        if let Some((code, message)) = &chosen.finding {
            self.findings.note(code, 1, message.clone());
        }
        let space = chosen.space.name();
        if let Some(asked) = collection
            .space_in_metadata
            .as_ref()
            .filter(|name| *name != space)
        {
            self.findings.note(
                "space-differs",
                1,
                format!(
                    "the collection's metadata says {asked}, but the segment was built with {space}"
                ),
            );
        }
        Ok(chosen)
    }

    /// Fails if the segment contradicts the caller's shape.
    pub(super) fn check_given(&self, records: &Records) -> Result<()> {
        let given = self.origin.given;
        let (dimension, m) = records.shape();
        for (field, given, found) in [("dimension", given.dimension, dimension), ("m", given.m, m)]
        {
            if let Some(given) = given.filter(|given| *given != found) {
                return Err(Error::argument(
                    field,
                    given,
                    format!(
                        "{found}, the value in the files of the collection {}",
                        self.origin.collection.name
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Chooses a metric. `evidence` examines the vectors, and is called only if they may matter.
///
/// Fails if the given metric contradicts the database or the vectors.
pub(crate) fn choose(
    collection: &Collection,
    given: Option<Space>,
    evidence: impl FnOnce(Extent) -> Result<Evidence>,
) -> Result<Chosen> {
    let statement = &collection.space;
    let chosen = |space, source| Chosen {
        space,
        source,
        finding: None,
    };
    let with = |space, source, code, message| Chosen {
        finding: Some((code, message)),
        ..chosen(space, source)
    };
    let refused = |given: Space, expected: Space, why: &str| {
        Err(Error::argument(
            "metric",
            given.name(),
            format!(
                "{} for the collection {}, because {why}",
                expected.name(),
                collection.name
            ),
        ))
    };
    // A source of lower precedence than an unreadable one counts unless the vectors contradict it.
    let is_stated = !statement.in_doubt || statement.is_of_index();
    let by_database = format!("{} of chroma.sqlite3 says so", statement.source.name());
    let other = given.filter(|given| *given != statement.space);
    if statement.is_of_index() && !statement.in_doubt {
        return match other {
            Some(given) => refused(given, statement.space, &by_database),
            None => Ok(chosen(statement.space, statement.source)),
        };
    }
    let is_unstated = statement.source == SpaceSource::Default && !statement.in_doubt;
    // The default metric needs only a sample as confirmation. A caller's metric or a doubt needs
    // all vectors.
    let evidence = evidence(match is_unstated && given.is_none() {
        true => Extent::Few,
        false => Extent::All,
    })?;
    let reason = evidence.reason();
    match (evidence.verdict(), given) {
        (Verdict::Cosine, Some(given)) if given != Space::Cosine => {
            refused(given, Space::Cosine, &reason)
        }
        // The vectors can only refute cosine: l2 and ip leave no trace in them.
        (Verdict::NotCosine, Some(Space::Cosine)) => {
            let expected = alternative(statement, collection);
            refused(Space::Cosine, expected, &reason)
        }
        (_, Some(given)) if other.is_some() && statement.is_of_index() => {
            refused(given, statement.space, &by_database)
        }
        (_, Some(given)) => Ok(chosen(given, SpaceSource::Option)),
        (Verdict::Cosine, None) => Ok(match is_stated && statement.space == Space::Cosine {
            true => chosen(statement.space, statement.source),
            false => with(
                Space::Cosine,
                SpaceSource::Evidence,
                "metric-evidence",
                format!("the vectors show that the metric is cosine: {reason}"),
            ),
        }),
        (Verdict::NotCosine, None) => {
            let space = alternative(statement, collection);
            Ok(match is_stated && space == statement.space {
                true => chosen(space, statement.source),
                false => with(
                    space,
                    SpaceSource::Evidence,
                    "metric-evidence",
                    format!(
                        "the vectors show that the metric is not cosine: {reason}; {} is assumed. \
                         Use --metric to choose between l2 and ip",
                        space.name()
                    ),
                ),
            })
        }
        (Verdict::Undecided, None) if !is_stated => {
            let space = asked(collection).unwrap_or(statement.space);
            Ok(with(
                space,
                SpaceSource::Undecided,
                "metric-undecided",
                format!(
                    "neither the database nor the vectors determine the metric ({reason}): {} is \
                     assumed. Use --metric to choose another",
                    space.name()
                ),
            ))
        }
        (Verdict::Undecided, None) => Ok(chosen(statement.space, statement.source)),
    }
}

/// The metric that the user requested in the collection's metadata.
fn asked(collection: &Collection) -> Option<Space> {
    Space::from_name(collection.space_in_metadata.as_deref()?)
}

/// The metric of vectors that cannot be cosine.
fn alternative(statement: &SpaceStatement, collection: &Collection) -> Space {
    let named = [Some(statement.space), asked(collection)];
    // The default is only a guess, so the user's request takes precedence over it.
    let mut named = named.into_iter().flatten();
    let is_default = statement.source == SpaceSource::Default;
    match is_default {
        true => named.rfind(|space| *space != Space::Cosine),
        false => named.find(|space| *space != Space::Cosine),
    }
    .unwrap_or(Space::L2)
}

/// Fails if the caller's dimension or m contradict the database.
pub(crate) fn check_shape(collection: &Collection, given: Given) -> Result<()> {
    for (field, given, stated) in [
        ("dimension", given.dimension, collection.dimension),
        (
            "m",
            given.m,
            collection.m.and_then(|m| usize::try_from(m).ok()),
        ),
    ] {
        if let (Some(given), Some(stated)) = (given, stated) {
            if given != stated {
                return Err(Error::argument(
                    field,
                    given,
                    format!(
                        "{stated}, the value in chroma.sqlite3 for the collection {}",
                        collection.name
                    ),
                ));
            }
        }
    }
    Ok(())
}
