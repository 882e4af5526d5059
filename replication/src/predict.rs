//! `replication predict`: what fitted laws say of runs that nobody made.

use crate::fit::file::{self, LawFile};
use crate::fit::tables::cell;
use crate::fit::{drawing, terminal};
use crate::progress::{answer, complain};
use forgetting_laws::fit::Fit;
use forgetting_laws::laws::Row;
use forgetting_laws::table::Column;
use forgetting_laws::{Error, Result};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

/// The runs to predict. Each number may be a list, 1e6,3e6, or a range, LOW:HIGH:COUNT, at even
/// distances of the logarithm (of p: of p itself); then the answer is a table.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The laws that `fit` wrote.
    laws: PathBuf,
    /// Model size N in parameters.
    #[arg(long, value_name = "N")]
    n_params: Option<Values>,
    /// Unique tokens of the target, D_ft.
    #[arg(long, value_name = "TOKENS")]
    d_ft: Option<Values>,
    /// Tokens of pretraining, D.
    #[arg(long, value_name = "TOKENS")]
    d_tokens: Option<Values>,
    /// Fraction of injected pretraining data, 0 to 1.
    #[arg(long, value_name = "P")]
    p: Option<Values>,
    /// Pretraining loss before finetuning, in nats per token [default: interpolated between the
    /// sizes that were fitted].
    #[arg(long, value_name = "NATS")]
    loss_pt0: Option<Values>,
    /// One law alone [default: every law that the numbers suffice for].
    #[arg(long, value_name = "NAME")]
    law: Option<String>,
    /// One group alone [default: every group].
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
}

/// One number, a list or a range.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    List(Vec<f64>),
    Range { low: f64, high: f64, count: usize },
}

/// A range has so many numbers at most, and a table so many rows.
const MOST: usize = 1_000_000;

impl FromStr for Values {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let value: Option<f64> = text.trim().parse().ok();
            value
                .filter(|value| value.is_finite())
                .ok_or_else(|| format!("{:?} is not a number", text.trim()))
        };
        let parts: Vec<_> = text.split(':').collect();
        match *parts {
            [list] => Ok(Self::List(list.split(',').map(number).collect::<Result<_, _>>()?)),
            [low, high, count] => {
                let (low, high) = (number(low)?, number(high)?);
                let count = count.trim().parse().ok().filter(|n| (2..=MOST).contains(n));
                let count = count.ok_or(format!("COUNT must be a number from 2 to {MOST}"))?;
                match low < high {
                    true => Ok(Self::Range { low, high, count }),
                    false => Err("LOW must be below HIGH".into()),
                }
            }
            _ => Err("must be a number, a list as 1e6,3e6 or a range LOW:HIGH:COUNT".into()),
        }
    }
}

impl Values {
    /// The numbers, with the ends of a range as they were given.
    fn of(&self, column: Column) -> Result<Vec<f64>> {
        let option = option(column);
        let good = |value: f64| match column {
            Column::P => (0.0..=1.0).contains(&value),
            _ => value > 0.0,
        };
        let requirement = match column {
            Column::P => "must lie between 0 and 1",
            _ => "must be above 0",
        };
        let check = |value: f64| match good(value) {
            true => Ok(value),
            false => Err(Error::setting(option, value, requirement)),
        };
        match *self {
            Self::List(ref values) => values.iter().copied().map(check).collect(),
            Self::Range { low, high, count } => {
                check(low)?;
                check(high)?;
                let at = |i: usize| {
                    let share = i as f64 / (count - 1) as f64;
                    match (i, column) {
                        (0, _) => low,
                        (i, _) if i == count - 1 => high,
                        // One division, so that hundredths come out as hundredths.
                        (_, Column::P) => {
                            let last = (count - 1) as f64;
                            (low * (last - i as f64) + high * i as f64) / last
                        }
                        _ => low * (high / low).powf(share),
                    }
                };
                Ok((0..count).map(at).collect())
            }
        }
    }

    fn is_one(&self) -> bool {
        matches!(self, Self::List(values) if values.len() == 1)
    }
}

/// How a column is given on the command line.
fn option(column: Column) -> &'static str {
    match column {
        Column::NParams => "--n-params",
        Column::DFtTokens => "--d-ft",
        Column::DTokens => "--d-tokens",
        Column::P => "--p",
        _ => "--loss-pt0",
    }
}

impl Arguments {
    fn given(&self, column: Column) -> Option<&Values> {
        match column {
            Column::NParams => self.n_params.as_ref(),
            Column::DFtTokens => self.d_ft.as_ref(),
            Column::DTokens => self.d_tokens.as_ref(),
            Column::P => self.p.as_ref(),
            _ => self.loss_pt0.as_ref(),
        }
    }

    /// The values of what a law looks at; NaN for what it does not, and for an L_pt⁰ to be
    /// interpolated.
    fn values(&self, fit: &Fit, column: Column) -> Result<Vec<f64>> {
        let read = fit.law.inputs().iter().any(|input| input.column == column);
        match self.given(column) {
            Some(values) if read => values.of(column),
            _ => Ok(vec![f64::NAN]),
        }
    }

    /// The first number that a law needs and nobody gave.
    fn missing(&self, fit: &Fit) -> Option<Column> {
        let columns = fit.law.inputs().iter().map(|input| input.column);
        let mut needed = columns.filter(|&column| column != Column::LossPt0);
        needed.find(|&column| self.given(column).is_none())
    }

    /// The fits that are asked for.
    fn chosen<'a>(&self, file: &'a LawFile) -> Result<Vec<&'a Fit>> {
        let domains = file.domains();
        if let Some(domain) = self.domain.as_deref().filter(|name| !domains.contains(name)) {
            let requirement = match domains.as_slice() {
                [""] => "the file has one group without a name; leave the option out".into(),
                _ => format!("must be one of {}", domains.join(", ")),
            };
            return Err(Error::setting("--domain", domain, requirement));
        }
        let of_domain =
            |fit: &&Fit| self.domain.as_ref().is_none_or(|domain| *domain == fit.domain);
        let of_domain: Vec<&Fit> = file.fits().filter(of_domain).collect();
        let of_law = |fit: &&Fit| self.law.as_ref().is_none_or(|law| law == fit.law.name());
        let fits: Vec<&Fit> = of_domain.iter().copied().filter(of_law).collect();
        if let (Some(law), true) = (&self.law, fits.is_empty()) {
            let mut names: Vec<_> = of_domain.iter().map(|fit| fit.law.name()).collect();
            names.sort_unstable();
            names.dedup();
            let requirement = format!("the file has {}", names.join(", "));
            return Err(Error::setting("--law", law, requirement));
        }
        let sufficient: Vec<&Fit> =
            fits.iter().copied().filter(|fit| self.missing(fit).is_none()).collect();
        match (sufficient.is_empty(), fits.first()) {
            (true, Some(fit)) => {
                let missing = self.missing(fit).unwrap_or(Column::NParams);
                let requirement = format!("the {} law needs it", fit.law.name());
                Err(Error::setting(option(missing), "none", requirement))
            }
            _ => Ok(sufficient),
        }
    }

    /// Every run that a law is asked about, in the order of the options.
    fn runs(&self, fit: &Fit) -> Result<Vec<Row>> {
        let values = |column| self.values(fit, column);
        let (sizes, data) = (values(Column::NParams)?, values(Column::DFtTokens)?);
        let (tokens, fractions) = (values(Column::DTokens)?, values(Column::P)?);
        let losses = values(Column::LossPt0)?;
        let counts = [&sizes, &data, &tokens, &fractions, &losses].map(Vec::len);
        let count = counts.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if count.is_none_or(|count| count > MOST) {
            let requirement = format!("must be at most {MOST}");
            let given = counts.map(|n| n.to_string()).join(" x ");
            return Err(Error::setting("number of runs", given, requirement));
        }
        let mut rows = Vec::new();
        for &n_params in &sizes {
            for &d_ft_tokens in &data {
                for &d_tokens in &tokens {
                    for &p in &fractions {
                        for &loss_pt0 in &losses {
                            rows.push(Row { n_params, d_ft_tokens, p, loss_pt0, d_tokens });
                        }
                    }
                }
            }
        }
        Ok(rows)
    }
}

/// Prints the predictions: in words for one run, as CSV for several.
///
/// # Errors
/// If the file is none of `fit`'s, has no such law or group, or a number is missing or none.
pub fn run(arguments: Arguments) -> Result<()> {
    let file = file::read(&arguments.laws)?;
    let fits = arguments.chosen(&file)?;
    let columns = [Column::NParams, Column::DFtTokens, Column::DTokens, Column::P, Column::LossPt0];
    let single = columns.iter().all(|&c| arguments.given(c).is_none_or(Values::is_one));
    let mut text = match single {
        true => String::new(),
        false => "domain,law,n_params,d_ft_tokens,d_tokens,p,loss_pt0,loss,low,high,law_low,\
                  law_high,outside\n"
            .into(),
    };
    let mut interpolated = false;
    for fit in fits {
        for row in arguments.runs(fit)? {
            let asked = Asked::of(fit, row)?;
            interpolated |= asked.interpolated;
            match single {
                true => asked.tell(&mut text),
                false => asked.write(&mut text),
            }
        }
    }
    if interpolated && !single {
        complain(
            "loss_pt0 is interpolated between the fitted sizes; --loss-pt0 gives a measured one",
        );
    }
    answer(&text)
}

/// A run that a law is asked about.
struct Asked<'a> {
    fit: &'a Fit,
    row: Row,
    /// Whether L_pt⁰ is interpolated, and beyond the fitted sizes even extrapolated.
    interpolated: bool,
    extrapolated: bool,
}

impl<'a> Asked<'a> {
    fn of(fit: &'a Fit, mut row: Row) -> Result<Self> {
        let needed = fit.law.inputs().iter().any(|input| input.column == Column::LossPt0);
        let (mut interpolated, mut extrapolated) = (false, false);
        if needed && row.loss_pt0.is_nan() {
            let found = fit.loss_pt0_at(row.n_params).ok_or_else(|| {
                let requirement = "must be given: no fitted row has one to go by";
                Error::setting("--loss-pt0", "none", requirement)
            })?;
            (row.loss_pt0, extrapolated) = (found.loss_pt0, found.outside);
            // A size that was fitted has a loss of its own.
            interpolated = fit.rows.iter().all(|known| known.row.n_params != row.n_params);
        }
        Ok(Self { fit, row, interpolated, extrapolated })
    }

    /// In words.
    fn tell(&self, text: &mut String) {
        let Self { fit, row, .. } = self;
        let prediction = fit.predict(row);
        let number = terminal::number;
        let _ = writeln!(text, "{}: {}", terminal::name(fit), fit.equation);
        let inputs = fit.law.inputs().iter().map(|input| {
            let value = number(row.get(input.column));
            match input.column {
                Column::LossPt0 if self.interpolated => {
                    let how = if self.extrapolated { "extrapolated" } else { "interpolated" };
                    format!("loss_pt0 = {value} ({how})")
                }
                column => format!("{column} = {value}"),
            }
        });
        let _ = writeln!(text, "  at        {}", inputs.collect::<Vec<_>>().join(", "));
        let output = fit.law.output();
        let _ = writeln!(text, "  {output:<9} {} nats per token", number(prediction.value));
        if let Some(resampled) = &fit.bootstrap {
            let level = drawing::percent(resampled.level);
            let mut interval = |low: Option<f64>, high: Option<f64>, what: &str| {
                if let (Some(low), Some(high)) = (low, high) {
                    let (low, high) = (number(low), number(high));
                    let _ = writeln!(text, "  {level:<9} [{low}, {high}] {what}");
                }
            };
            interval(prediction.low, prediction.high, "for the loss of a new run");
            interval(prediction.law_low, prediction.law_high, "for the law itself");
        } else {
            let _ = writeln!(text, "  interval  none: the law was fitted without resamples");
        }
        for warning in self.warnings(&prediction.outside) {
            let _ = writeln!(text, "  warning   {warning}");
        }
    }

    /// A row of the table.
    fn write(&self, text: &mut String) {
        let Self { fit, row, .. } = self;
        let prediction = fit.predict(row);
        let end = |end: Option<f64>| cell(end.unwrap_or(f64::NAN));
        let mut outside = prediction.outside.clone();
        if self.extrapolated {
            outside.push(Column::LossPt0.name().into());
        }
        let cells = [
            fit.domain.clone(),
            fit.law.name().into(),
            cell(row.n_params),
            cell(row.d_ft_tokens),
            cell(row.d_tokens),
            cell(row.p),
            cell(row.loss_pt0),
            cell(prediction.value),
            end(prediction.low),
            end(prediction.high),
            end(prediction.law_low),
            end(prediction.law_high),
            outside.join(" "),
        ];
        text.push_str(&crate::fit::tables::line(&cells));
    }

    /// Why the prediction should not be relied on.
    fn warnings(&self, outside: &[String]) -> Vec<String> {
        let fit = self.fit;
        let mut warnings = Vec::new();
        for input in fit
            .law
            .inputs()
            .iter()
            .filter(|input| outside.iter().any(|name| name == input.column.name()))
        {
            let (low, high) = fit.range(input.column);
            let (low, high) = (terminal::number(low), terminal::number(high));
            warnings.push(format!(
                "{} lies outside the {low} to {high} that were fitted: an extrapolation",
                input.column
            ));
        }
        if self.extrapolated {
            warnings.push(
                "loss_pt0 is extrapolated from other sizes; --loss-pt0 takes a measured one".into(),
            );
        }
        if fit.is_supported() == Some(false) {
            warnings.push(
                "the law is not supported: on held-out runs it does not beat models that know \
                 nothing"
                    .into(),
            );
        }
        match fit.status {
            forgetting_laws::fit::Status::NotIdentified => {
                warnings.push("the runs do not determine the law's parameters".into());
            }
            forgetting_laws::fit::Status::NotConverged => {
                warnings.push("the law's optimum was not found".into());
            }
            _ => {}
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, column: Column) -> Vec<f64> {
        text.parse::<Values>().unwrap().of(column).unwrap()
    }

    #[test]
    fn numbers_lists_and_ranges() {
        assert_eq!(values("3e6", Column::NParams), [3e6]);
        assert_eq!(values("1e6, 3e6,2", Column::DFtTokens), [1e6, 3e6, 2.0]);
        assert_eq!(values("0:0.1:3", Column::P), [0.0, 0.05, 0.1]);
        let sizes = values("1e6:1e8:3", Column::NParams);
        assert_eq!((sizes[0], sizes[2], sizes.len()), (1e6, 1e8, 3));
        // Two roundings of a power.
        assert!((sizes[1] / 1e7 - 1.0).abs() < 1e-14);
        assert_eq!(values("0.01:0.3:2", Column::P), [0.01, 0.3]);
        assert!("1,2".parse::<Values>().is_ok_and(|values| !values.is_one()));
        assert!("1".parse::<Values>().is_ok_and(|values| values.is_one()));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "many", "1,", "1:2", "1:2:1", "1:2:3:4", "2:1:3", "1:1:3", "nan", "1:inf:3"]
        {
            assert!(text.parse::<Values>().is_err(), "{text}");
        }
        let refused = |text: &str, column| {
            text.parse::<Values>().unwrap().of(column).unwrap_err().to_string()
        };
        assert_eq!(refused("1.5", Column::P), "--p = 1.5: must lie between 0 and 1");
        assert_eq!(refused("-0.1:1:3", Column::P), "--p = -0.1: must lie between 0 and 1");
        assert_eq!(refused("0:10:3", Column::NParams), "--n-params = 0: must be above 0");
        assert_eq!(refused("-3", Column::LossPt0), "--loss-pt0 = -3: must be above 0");
    }
}
