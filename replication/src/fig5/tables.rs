//! The figure's tables. No column depends on the clock, and rows are sorted.

use super::Drawn;
use crate::fit::tables::cell;
use forgetting_laws::run::Spec;
use std::fmt::Write as _;

/// Every plotted number.
pub fn trajectories(drawn: &[Drawn<'_>]) -> String {
    let mut csv =
        String::from("size,n_params,d_ft_tokens,p,lr_ratio,seed,step,loss_ft_val,loss_pt_val\n");
    for d in drawn {
        for e in &d.record.evaluations {
            let losses = format!("{},{}", cell(e.loss_ft), cell(e.loss_pt));
            let _ = writeln!(csv, "{},{},{losses}", identity(d), e.step);
        }
    }
    csv
}

/// A row a run.
pub fn runs(drawn: &[Drawn<'_>]) -> String {
    let mut csv = String::from(
        "size,n_params,d_ft_tokens,p,lr_ratio,seed,bottom_step,interior,loss_ft,loss_pt,loss_pt0,\
         stable,outcome,steps,lr,n_params_non_embedding,sequences,injected_sequences,tokens,\
         injected_tokens,target_epochs,run_id\n",
    );
    for d in drawn {
        let Spec::Finetune(spec) = &d.cell.job.spec else { continue };
        let bottom = match &d.bottom {
            Some(b) => {
                format!("{},{},{},{}", b.step, b.interior, cell(b.loss_ft), cell(b.loss_pt))
            }
            None => ",false,,".into(),
        };
        let outcome = d.record.outcome.name();
        let r = &d.record.realised;
        let _ = writeln!(
            csv,
            "{},{bottom},{},{},{outcome},{},{},{},{},{},{},{},{},{}",
            identity(d),
            cell(d.loss_pt0()),
            d.stable,
            d.record.steps,
            spec.schedule.lr(spec.steps - 1),
            d.n_params().non_embedding,
            r.sequences,
            r.injected_sequences,
            r.tokens,
            r.injected_tokens,
            cell(r.epochs),
            d.record.id,
        );
    }
    csv
}

/// The columns that say which run a row is of.
fn identity(d: &Drawn<'_>) -> String {
    format!(
        "{},{},{},{},{},{}",
        d.size.name,
        d.n_params().paper(),
        d.record.realised.unique_tokens,
        d.cell.p.get(),
        d.cell.ratio.get(),
        d.cell.seed
    )
}
