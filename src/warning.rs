//! Warnings with identifiers that stay the same from version to version.
//!
//! A [`Warning`] says what is wrong with these runs or this question; its [`WarningKind`] says what
//! such a thing means in general and what to do about it. `docs/report-card.md` lists them all.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// What a warning is about. The identifiers do not change; new kinds get new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WarningKind {
    /// A warning without an identifier, from a file of an earlier version.
    #[serde(rename = "W00")]
    Other,
    /// Too few distinct values of N, D_ft, D or p.
    #[serde(rename = "W01")]
    FewDistinctValues,
    /// Two sizes grow together, so that their effects cannot be told apart.
    #[serde(rename = "W02")]
    SizesTogether,
    /// No setting was run twice.
    #[serde(rename = "W03")]
    OneSeed,
    /// A column that says which rows are one run makes fewer than ten runs.
    #[serde(rename = "W04")]
    FewRuns,
    /// A column is used because of its name, without an option that asks for it.
    #[serde(rename = "W05")]
    ColumnUsedUnasked,
    /// The values of p look like percentages.
    #[serde(rename = "W06")]
    PercentagesAsFractions,
    /// The losses differ by no more than rounding.
    #[serde(rename = "W07")]
    EqualLosses,
    /// Some losses are not those of an interior bottom.
    #[serde(rename = "W08")]
    BottomNotInterior,
    /// A question lies outside the runs.
    #[serde(rename = "W09")]
    Extrapolation,
    /// The target data of a question is repeated far more or less often than in the runs.
    #[serde(rename = "W10")]
    Repetition,
    /// Each size has one pretrained model.
    #[serde(rename = "W11")]
    OnePretrainedModel,
    /// No runs could be held out.
    #[serde(rename = "W12")]
    NotHeldOut,
    /// On runs that were held out the law does not beat the baselines.
    #[serde(rename = "W13")]
    NotSupported,
    /// The runs do not determine the parameters.
    #[serde(rename = "W14")]
    NotIdentified,
    /// The optimum was not found.
    #[serde(rename = "W15")]
    NotConverged,
    /// Rows of the table repeat others in every column.
    #[serde(rename = "W16")]
    RepeatedRows,
    /// A run that was made lies outside the law's interval.
    #[serde(rename = "W17")]
    RunOutsideInterval,
    /// L_pt⁰ is extrapolated from other sizes.
    #[serde(rename = "W18")]
    BaselineExtrapolated,
    /// A part of the table was not read as it is written.
    #[serde(rename = "W19")]
    NotReadAsWritten,
    /// No p keeps a run within the limit that is asked for.
    #[serde(rename = "W20")]
    NoPKeepsLimit,
    /// No size that is looked at reaches the loss that is asked for.
    #[serde(rename = "W21")]
    LossNotReached,
    /// The resampled laws agree, so that no run would make the prediction more certain.
    #[serde(rename = "W22")]
    NothingToShrink,
}

impl WarningKind {
    /// Every kind, by identifier.
    pub const ALL: [Self; 23] = [
        Self::Other,
        Self::FewDistinctValues,
        Self::SizesTogether,
        Self::OneSeed,
        Self::FewRuns,
        Self::ColumnUsedUnasked,
        Self::PercentagesAsFractions,
        Self::EqualLosses,
        Self::BottomNotInterior,
        Self::Extrapolation,
        Self::Repetition,
        Self::OnePretrainedModel,
        Self::NotHeldOut,
        Self::NotSupported,
        Self::NotIdentified,
        Self::NotConverged,
        Self::RepeatedRows,
        Self::RunOutsideInterval,
        Self::BaselineExtrapolated,
        Self::NotReadAsWritten,
        Self::NoPKeepsLimit,
        Self::LossNotReached,
        Self::NothingToShrink,
    ];

    /// The identifier, `W01`.
    pub fn id(self) -> &'static str {
        const IDS: [&str; 23] = [
            "W00", "W01", "W02", "W03", "W04", "W05", "W06", "W07", "W08", "W09", "W10", "W11",
            "W12", "W13", "W14", "W15", "W16", "W17", "W18", "W19", "W20", "W21", "W22",
        ];
        IDS[self as usize]
    }

    /// What it means, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Other => {
                "The file was written by an earlier version, whose warnings had no identifiers."
            }
            Self::FewDistinctValues => {
                "With only one or two values of N, D_ft, D or p, the form of the law along that axis is \
                 assumed and not tested."
            }
            Self::SizesTogether => {
                "Two of N, D and D_ft have the same ratio in all runs, so their effects cannot be told apart \
                 (arXiv 2605.08541)."
            }
            Self::OneSeed => {
                "No setting was run with two seeds, so the noise of runs and the misfit of the \
                 law cannot be told apart."
            }
            Self::FewRuns => {
                "The rows come from fewer than ten runs, and intervals from a bootstrap over so few \
                 runs are too narrow."
            }
            Self::ColumnUsedUnasked => {
                "Columns of the table changed the result because of their names, without an option \
                 that asks for them."
            }
            Self::PercentagesAsFractions => {
                "The values of p are read as fractions and look like percentages."
            }
            Self::EqualLosses => {
                "The losses that the law explains differ only by rounding, so no law is supported."
            }
            Self::BottomNotInterior => {
                "Some losses come from the first or the last evaluation and not from a bottom \
                 between them."
            }
            Self::Extrapolation => "The question lies outside the runs.",
            Self::Repetition => {
                "The question repeats its target data far more or less often than the runs do."
            }
            Self::OnePretrainedModel => {
                "Each size has one pretrained model, so the runs do not show how much another \
                 pretrained model would differ."
            }
            Self::NotHeldOut => "The law was not tested on held-out runs.",
            Self::NotSupported => {
                "On held-out runs the law does not beat both baselines in both errors."
            }
            Self::NotIdentified => "Other parameters fit the runs equally well.",
            Self::NotConverged => {
                "The optimum was not found, and the parameters should not be trusted."
            }
            Self::RepeatedRows => "Rows that are identical in every column are counted once.",
            Self::RunOutsideInterval => {
                "A run with this setting was made, and its loss lies outside the interval of the law."
            }
            Self::BaselineExtrapolated => {
                "L_pt0 of the model in question is extrapolated from models of other sizes."
            }
            Self::NotReadAsWritten => {
                "Lines of the table were read as comments, or some of its characters are not valid UTF-8."
            }
            Self::NoPKeepsLimit => {
                "According to the law, no fraction of injected data keeps a new run within the limit with this confidence."
            }
            Self::LossNotReached => {
                "According to the law, no size within a factor of 1,000 of the runs reaches the requested loss."
            }
            Self::NothingToShrink => {
                "All resampled laws answer the question alike, so no run would make the answer \
                 more certain."
            }
        }
    }

    /// What to do about it, in a sentence.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Other => "Fit the table again.",
            Self::FewDistinctValues => {
                "Add runs with at least one more value, far from the others."
            }
            Self::SizesTogether => "Add runs with other ratios, or use the law only at this ratio.",
            Self::OneSeed => "Repeat a few settings with other seeds.",
            Self::FewRuns => {
                "Read the intervals as a lower bound on the uncertainty; if the column does not \
                 say which rows belong to one run, name another one with --runs."
            }
            Self::ColumnUsedUnasked => {
                "If a column holds that, ask for it with --group-by, --runs, --weight or --map; if not, \
                 rename it."
            }
            Self::PercentagesAsFractions => {
                "If 1 means one percent, divide by 100, as `fit --percent` does."
            }
            Self::EqualLosses => {
                "Give the losses with more digits, or add runs whose losses differ."
            }
            Self::BottomNotInterior => {
                "Leave these runs out (--where interior=true), or train them longer and evaluate them \
                 earlier."
            }
            Self::Extrapolation => {
                "Add runs nearer to the question, or trust only the order of magnitude."
            }
            Self::Repetition => "Add runs that repeat their data about as often.",
            Self::OnePretrainedModel => {
                "Pretrain a second model of one size with another seed and identify it in a \
                 column parent_id, or give the spread with --model-spread."
            }
            Self::NotHeldOut => "Add sizes, or hold out along another axis with --hold-out.",
            Self::NotSupported => {
                "Compare other forms (--law all), and do not use this one outside its runs."
            }
            Self::NotIdentified => {
                "Add runs that vary what the parameters multiply, or use a law with fewer parameters."
            }
            Self::NotConverged => "Report the table; until then use another --penalty or --delta.",
            Self::RepeatedRows => {
                "If they are replicates and not copies, give each its own seed or run."
            }
            Self::RunOutsideInterval => {
                "Trust the run, and doubt the law, even far from this setting."
            }
            Self::BaselineExtrapolated => "Measure L_pt0 and give it with --loss-pt0.",
            Self::NotReadAsWritten => "Check these places; quote a value that starts with #.",
            Self::NoPKeepsLimit => {
                "Allow a larger increase, ask for less confidence, or use a larger model."
            }
            Self::LossNotReached => {
                "Ask for a higher loss, or change something that the law does not vary."
            }
            Self::NothingToShrink => {
                "Check that the losses were measured: they follow the law without any noise."
            }
        }
    }

    /// A warning of this kind.
    pub fn warn(self, message: impl Into<String>) -> Warning {
        Warning { kind: self, message: message.into() }
    }
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// What is wrong with some runs, a fit or a question. Shown as `W03: …`; in JSON an object of `id`,
/// `message` and `remedy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// What is wrong here, without a full stop at its end.
    pub message: String,
}

impl Warning {
    /// What is wrong, and what to do about it.
    pub fn with_remedy(&self) -> String {
        format!("{self}. {}", self.kind.remedy())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            WarningKind::Other => f.write_str(&self.message),
            kind => write!(f, "{kind}: {}", self.message),
        }
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            id: WarningKind,
            message: &'a str,
            remedy: &'a str,
        }
        let Self { kind, message } = self;
        Written { id: *kind, message, remedy: kind.remedy() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Warning {
    /// Earlier versions wrote the message alone.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Message(String),
            Whole { id: WarningKind, message: String },
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Message(message) => Self { kind: WarningKind::Other, message },
            Written::Whole { id, message } => Self { kind: id, message },
        })
    }
}
