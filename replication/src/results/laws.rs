//! The paper's two laws, fitted to every domain of the main grid.

use super::Results;
use crate::blocks::MAIN;
use forgetting_laws::Result;
use forgetting_laws::fit::{self, Bootstrap, Fit, Options};
use forgetting_laws::laws::{self, Finetuning, Forgetting, Law};
use forgetting_laws::table::{Column, Table};

/// The laws of a domain, or why there is none.
pub struct DomainLaws {
    /// The domain.
    pub domain: String,
    /// Equation 7.
    pub forgetting: Result<Fit>,
    /// Equation 6.
    pub finetuning: Result<Fit>,
    /// The preferred form of the forgetting law, if it is significantly ahead of Equation 7 on held-out
    /// runs.
    pub other: Option<Fit>,
    /// The same among the forms whose increase has no bound, for the share of the forgetting that
    /// injection prevents. In a bounded form this share shrinks again where the increase nears its
    /// bound, and on the pre-registered runs of `golden/micro` it missed the share by more than the
    /// form 1 + B·p·D_ft did.
    pub unbounded: Option<Fit>,
}

/// The laws of all domains, in the order of [`Results::domains`].
pub struct Laws(pub Vec<DomainLaws>);

impl DomainLaws {
    /// Both laws, in the order of their equations.
    pub fn both(&self) -> [(&'static str, &Result<Fit>); 2] {
        [(Finetuning.name(), &self.finetuning), (Forgetting.name(), &self.forgetting)]
    }
}

impl Laws {
    /// Fits the laws to the runs of the main grid that are not left out.
    pub fn of(results: &Results) -> Self {
        let options = Options { misfit: false, ..Options::default() };
        let vocab_size = u32::try_from(results.pretraining.vocab).ok();
        Self::with_vocabulary(&results.table(MAIN), vocab_size, &options)
    }

    /// Fits the laws to each domain of a table.
    pub fn fitted(table: &Table, options: &Options) -> Self {
        Self::with_vocabulary(table, None, options)
    }

    /// The same. If the size of the vocabulary is known, the form that is bounded by a uniform model's
    /// loss is compared with Equation 7 too.
    pub fn with_vocabulary(table: &Table, vocab_size: Option<u32>, options: &Options) -> Self {
        let forms = laws::forms(Column::LossPt, vocab_size);
        let without_bound: Vec<_> = forms.iter().copied().filter(|law| !law.is_bounded()).collect();
        let fitted = |(domain, table): (String, Table)| {
            let of = |law: &'static dyn Law| {
                let mut fit = fit::fit(&table, law, options)?;
                fit.domain.clone_from(&domain);
                Ok(fit)
            };
            let forgetting = of(&Forgetting);
            let ahead = |forms: &[&'static dyn Law]| {
                let equation_7 = forgetting.as_ref().ok()?;
                ahead_of_equation_7(&table, forms, equation_7, options)
            };
            let other = ahead(&forms).and_then(|law| of(law).ok());
            let unbounded = ahead(&without_bound).and_then(|law| match &other {
                Some(fit) if fit.law.name() == law.name() => Some(fit.clone()),
                _ => of(law).ok(),
            });
            let finetuning = of(&Finetuning);
            DomainLaws { domain: domain.clone(), forgetting, finetuning, other, unbounded }
        };
        Self(table.groups().into_iter().map(fitted).collect())
    }

    /// The laws of one domain.
    pub fn domain(&self, name: &str) -> Option<&DomainLaws> {
        self.0.iter().find(|laws| laws.domain == name)
    }

    /// The existing fits, by domain and then by equation.
    pub fn fits(&self) -> impl Iterator<Item = &Fit> {
        self.0.iter().flat_map(|laws| laws.both()).filter_map(|(_, fit)| fit.as_ref().ok())
    }

    /// The forms of the forgetting law that are better than Equation 7, by domain.
    pub fn others(&self) -> impl Iterator<Item = &Fit> {
        self.0.iter().filter_map(|laws| laws.other.as_ref())
    }

    /// Notes about what could not be fitted and why.
    pub fn missing(&self) -> Vec<String> {
        let why = |domain: &str, (law, fit): (&str, &Result<Fit>)| {
            fit.as_ref().err().map(|why| format!("There is no {law} law for {domain}: {why}."))
        };
        let of = |laws: &'_ DomainLaws| {
            laws.both().into_iter().filter_map(|law| why(&laws.domain, law)).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The resamples of the fits, for further fits next to them.
    pub fn bootstrap(&self) -> Bootstrap {
        let resampled = self.fits().find_map(|fit| fit.bootstrap.as_ref());
        resampled.map_or(Bootstrap::NONE, |resampled| Bootstrap {
            resamples: resampled.resamples,
            level: resampled.level,
            seed: resampled.seed,
        })
    }
}

/// The preferred form of the forgetting law, if it is supported and can be told apart from Equation 7.
fn ahead_of_equation_7(
    table: &Table,
    forms: &[&'static dyn Law],
    equation_7: &Fit,
    options: &Options,
) -> Option<&'static dyn Law> {
    let ranking = fit::rank(table, forms, std::slice::from_ref(equation_7), options).ok()??;
    let preferred = ranking.preferred()?;
    let of = |name: &str| ranking.forms.iter().find(|form| form.form == name);
    let ahead = of(&preferred.form)?.supported && !of(Forgetting.name())?.tied;
    forms.iter().copied().find(|law| ahead && law.name() == preferred.form)
}
