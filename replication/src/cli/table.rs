//! How a command reads a table of losses.

use forgetting_laws::table::read::{Naming, Reading};

/// How a table is read, as the command line has it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TableOptions {
    /// Takes another column for a name: n_params, d_ft_tokens, d_tokens, p, loss_pt0, loss_pt,
    /// loss_ft, loss, domain, seed, run, weight, parent_id (the pretrained model), epochs (passes over
    /// the target data) or interior (whether the bottom is). Example: --map n_params=Model_Size
    #[arg(long, value_name = "NAME=COLUMN")]
    pub map: Vec<String>,
    /// Takes p for a percentage: 5 is 0.05. What is written with the sign, 5%, is one without this.
    #[arg(long)]
    pub percent: bool,
    /// Takes 3,14 in .csv and .tsv files for 3.14.
    #[arg(long)]
    pub decimal_comma: bool,
    /// Keeps the rows for which it holds, by the values that the file has; OP is = != < <= > or >=.
    /// May be repeated: all must hold. Example: --where 'family=GPT2,OPT' --where 'd_ft_tokens>0'
    #[arg(long = "where", value_name = "COLUMN OP VALUE")]
    pub filters: Vec<String>,
    /// Makes a row of each column whose header is a number: the header is the first, the cell the
    /// second. Example: --wide d_ft_tokens:loss_ft
    #[arg(long, value_name = "NAME:NAME")]
    pub wide: Option<String>,
    /// Fits each value of this column by itself; none fits all rows together [default: domain, where
    /// there is one].
    #[arg(long, value_name = "COLUMN")]
    pub group_by: Option<String>,
    /// The column that says which rows come from one run; the bootstrap draws them together
    /// [default: run, or else each row is a run].
    #[arg(long, value_name = "COLUMN")]
    pub runs: Option<String>,
    /// The column that says how many rows each counts for [default: weight, or else 1].
    #[arg(long, value_name = "COLUMN")]
    pub weight: Option<String>,
}

impl TableOptions {
    /// The library's settings, which its messages name as these options.
    pub fn reading(&self) -> Reading {
        let Self { map, percent, decimal_comma, filters, wide, group_by, runs, weight } =
            self.clone();
        let naming = Naming::Flag;
        Reading { map, percent, decimal_comma, filters, wide, group_by, runs, weight, naming }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;
    use forgetting_laws::table::read::FIELDS;

    #[test]
    fn the_help_names_every_field() {
        let command = TableOptions::augment_args(clap::Command::new("test"));
        let help = command.get_arguments().find(|argument| argument.get_id() == "map").unwrap();
        let help = help.get_help().unwrap().to_string();
        for field in FIELDS {
            assert!(help.contains(field), "{field}");
        }
    }
}
