//! At equal FLOPs, a smaller model on more tokens or a larger one on fewer.

use super::{Advisor, Asked, Estimate, check, check_positive};
use crate::Result;
use crate::laws::Row;
use crate::table::Column;
use crate::warning::Warning;
use serde::Serialize;

/// A pretrained model, and what finetuning makes of it. Losses in nats per token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Model {
    /// N in parameters.
    pub n_params: f64,
    /// D, its tokens of pretraining.
    pub d_tokens: f64,
    /// L_pt⁰, from the additive law; `None` where it was not fitted.
    pub loss_pt0: Option<Estimate>,
    /// What it forgets, L_pt − L_pt⁰.
    pub rise: Estimate,
    /// L_pt.
    pub loss_pt: Option<Estimate>,
    /// L_ft; `None` where no finetuning law was fitted.
    pub loss_ft: Option<Estimate>,
}

/// A model compared with a larger one that took the same FLOPs to pretrain.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Larger {
    /// The FLOPs of either pretraining: 6·N·D.
    pub flops: f64,
    /// The model that was asked about.
    pub smaller: Model,
    /// The model with `ratio` times the parameters and 1 / `ratio` of the tokens.
    pub larger: Model,
    /// How much less the larger model forgets, in nats per token. It is worth it as long as its
    /// L_pt⁰, after fewer tokens of pretraining, is higher by no more than this.
    pub forgets_less: Estimate,
    /// L_pt of the larger − that of the smaller, after finetuning; below 0 where the larger is
    /// better. `None` without the additive law.
    pub loss_pt: Option<Estimate>,
    /// The share of the resamples by which the larger has the lower L_pt after finetuning.
    pub better: Option<f64>,
    /// L_ft of the larger − that of the smaller.
    pub loss_ft: Option<Estimate>,
    /// What was assumed, and which runs would make it unnecessary.
    pub assumed: Vec<String>,
    /// Why this should not be relied on.
    pub warnings: Vec<Warning>,
}

impl Advisor<'_> {
    /// Whether at equal FLOPs a model of `ratio` times the parameters is the better one to finetune.
    /// Reads N, D_ft, D and p.
    ///
    /// Losses before finetuning come from the additive law, which is fitted to runs of its own.
    /// Resamples of different laws are taken as independent and combined in pairs. The forgetting
    /// and finetuning laws depend on the model through N alone, so their answers hold for the
    /// tokens per parameter of their runs.
    ///
    /// # Errors
    /// If there is no forgetting law with resamples, or a number is outside its domain. Without the
    /// additive law the losses before finetuning are not compared: [`Larger::forgets_less`] is
    /// what they may differ by.
    pub fn larger_model(&self, row: &Row, ratio: f64) -> Result<Larger> {
        let forgetting = self.law(Column::LossPt)?;
        check(row, &[Column::NParams, Column::DFtTokens, Column::DTokens, Column::P])?;
        check_positive("ratio", ratio)?;
        // The increase does not depend on where it starts.
        let smaller = Row { loss_pt0: 1.0, ..*row };
        let larger =
            Row { n_params: ratio * row.n_params, d_tokens: row.d_tokens / ratio, ..smaller };
        let additive = self.law(Column::Loss);
        let finetuning = self.law(Column::LossFt);
        let mut assumed = vec![
            "FLOPs of pretraining are 6·N·D".to_string(),
            "forgetting and the loss on the target depend on the model by N alone, as in runs with \
             the tokens per parameter of the fitted ones"
                .to_string(),
        ];
        let mut warnings = Vec::new();
        for row in [&smaller, &larger] {
            warnings.extend(forgetting.warnings(row));
            for law in [&additive, &finetuning].into_iter().flatten() {
                warnings.extend(law.warnings(row));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        warnings.retain(|warning| seen.insert(warning.clone()));
        if let Err(why) = &additive {
            assumed.push(format!(
                "the losses before finetuning are not compared ({why}); the additive law needs \
                 rows with n_params, d_tokens and loss of pretraining at three sizes and three D \
                 or more"
            ));
        }
        let rise = |row: &Row, values: &[f64]| forgetting.at(row, values) - row.loss_pt0;
        let model = |row: &Row| Model {
            n_params: row.n_params,
            d_tokens: row.d_tokens,
            loss_pt0: additive.as_ref().ok().map(|law| law.estimate(|v| law.at(row, v))),
            rise: forgetting.estimate(|v| rise(row, v)),
            loss_pt: additive.as_ref().ok().map(|before| {
                paired(before, &forgetting, |b, f| before.at(row, b) + rise(row, f)).0
            }),
            loss_ft: finetuning.as_ref().ok().map(|law| law.estimate(|v| law.at(row, v))),
        };
        let loss_pt = additive.as_ref().ok().map(|before| {
            paired(before, &forgetting, |b, f| {
                let after = |row: &Row| before.at(row, b) + rise(row, f);
                after(&larger) - after(&smaller)
            })
        });
        let loss_ft = finetuning
            .as_ref()
            .ok()
            .map(|law| law.estimate(|values| law.at(&larger, values) - law.at(&smaller, values)));
        Ok(Larger {
            flops: 6.0 * row.n_params * row.d_tokens,
            smaller: model(&smaller),
            larger: model(&larger),
            forgets_less: forgetting.estimate(|v| rise(&smaller, v) - rise(&larger, v)),
            loss_pt: loss_pt.map(|(estimate, _)| estimate),
            better: loss_pt.map(|(_, below)| below),
            loss_ft,
            assumed,
            warnings,
        })
    }
}

/// A number that depends on the parameters of two laws, and the share of the resamples in which it
/// is below 0.
fn paired(a: &Asked, b: &Asked, of: impl Fn(&[f64], &[f64]) -> f64) -> (Estimate, f64) {
    let draws: Vec<f64> = a.draws.iter().zip(b.draws).map(|(a, b)| of(a, b)).collect();
    let below = draws.iter().filter(|&&draw| draw < 0.0).count() as f64 / draws.len() as f64;
    (Estimate::of(of(&a.fit.values(), &b.fit.values()), draws, a.level), below)
}
