//! The metric of a collection, by the database, the caller and the vectors; and the shape that the
//! caller states.

use super::base::Records;
use super::{Given, Planner};
use crate::error::{Error, Result};
use crate::segment::evidence::{Evidence, Verdict};
use crate::store::catalog::{Collection, Space, SpaceSource};
use crate::store::space::SpaceStatement;

/// The metric that vectors are read with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) space: Space,
    pub(crate) source: SpaceSource,
    /// Code and message of a finding about it.
    pub(crate) finding: Option<(&'static str, String)>,
}

/// How many records are looked at for [`Evidence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    Few,
    All,
}

impl Planner<'_> {
    /// The metric, with a finding for everything that puts it in doubt.
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
                    "the collection's metadata says {asked}, but the index was built with {space}"
                ),
            );
        }
        Ok(chosen)
    }

    /// Fails if the index has another shape than the caller says.
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
                        "{found}, as the files of the collection {} say",
                        self.origin.collection.name
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Decides. `evidence` looks at the vectors, which is done only if they may matter.
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
                "{} for the collection {}, as {why}",
                expected.name(),
                collection.name
            ),
        ))
    };
    // A place that goes after one that cannot be read is right if the vectors do not contradict it.
    let is_said = !statement.in_doubt || statement.is_of_index();
    let by_database = format!("{} of chroma.sqlite3 says", statement.source.name());
    let other = given.filter(|given| *given != statement.space);
    if statement.is_of_index() && !statement.in_doubt {
        return match other {
            Some(given) => refused(given, statement.space, &by_database),
            None => Ok(chosen(statement.space, statement.source)),
        };
    }
    let is_unsaid = statement.source == SpaceSource::Default && !statement.in_doubt;
    let evidence = evidence(match is_unsaid && given.is_none() {
        true => Extent::Few,
        false => Extent::All,
    })?;
    let reason = evidence.reason();
    match (evidence.verdict(), given) {
        (Verdict::Cosine, Some(given)) if given != Space::Cosine => {
            refused(given, Space::Cosine, &reason)
        }
        (Verdict::NotCosine, Some(Space::Cosine)) => {
            let expected = alternative(statement, collection);
            refused(Space::Cosine, expected, &reason)
        }
        (_, Some(given)) if other.is_some() && statement.is_of_index() => {
            refused(given, statement.space, &by_database)
        }
        (_, Some(given)) => Ok(chosen(given, SpaceSource::Option)),
        (Verdict::Cosine, None) => Ok(match is_said && statement.space == Space::Cosine {
            true => chosen(statement.space, statement.source),
            false => with(
                Space::Cosine,
                SpaceSource::Evidence,
                "metric-evidence",
                format!("the metric is cosine by the vectors: {reason}"),
            ),
        }),
        (Verdict::NotCosine, None) => {
            let space = alternative(statement, collection);
            Ok(match is_said && space == statement.space {
                true => chosen(space, statement.source),
                false => with(
                    space,
                    SpaceSource::Evidence,
                    "metric-evidence",
                    format!(
                        "the metric is not cosine by the vectors: {reason}; {} is assumed, and \
                         --metric decides between l2 and ip",
                        space.name()
                    ),
                ),
            })
        }
        (Verdict::Undecided, None) if !is_said => {
            let space = asked(collection).unwrap_or(statement.space);
            Ok(with(
                space,
                SpaceSource::Undecided,
                "metric-undecided",
                format!(
                    "neither the database nor the vectors say the metric ({reason}): {} is \
                     assumed, and --metric decides",
                    space.name()
                ),
            ))
        }
        (Verdict::Undecided, None) => Ok(chosen(statement.space, statement.source)),
    }
}

/// The metric that the user asked for.
fn asked(collection: &Collection) -> Option<Space> {
    Space::from_name(collection.space_in_metadata.as_deref()?)
}

/// The metric of vectors that refute cosine.
fn alternative(statement: &SpaceStatement, collection: &Collection) -> Space {
    let named = [Some(statement.space), asked(collection)];
    // The default is a guess, and so comes after what the user asked for.
    let mut named = named.into_iter().flatten();
    let is_default = statement.source == SpaceSource::Default;
    match is_default {
        true => named.rfind(|space| *space != Space::Cosine),
        false => named.find(|space| *space != Space::Cosine),
    }
    .unwrap_or(Space::L2)
}

/// Fails if dimension or m contradict the database.
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
                        "{stated}, as chroma.sqlite3 says of the collection {}",
                        collection.name
                    ),
                ));
            }
        }
    }
    Ok(())
}
