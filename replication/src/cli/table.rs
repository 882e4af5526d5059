//! Options for reading a table of losses.

use forgetting_laws::table::read::{Naming, Reading};

/// Options for reading a table.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TableOptions {
    /// Reads NAME from another column. NAME is n_params, d_ft_tokens, d_tokens, p, loss_pt0, loss_pt,
    /// loss_ft, loss, domain, seed, run, weight, parent_id (the pretrained model), epochs (passes over
    /// the target data) or interior (whether the bottom lies between the first and the last
    /// evaluation). Example: --map n_params=Model_Size
    #[arg(long, value_name = "NAME=COLUMN")]
    pub map: Vec<String>,
    /// Reads p as a percentage: 5 means 0.05. A value with a sign, such as 5%, is always one.
    #[arg(long)]
    pub percent: bool,
    /// Reads 3,14 in .csv and .tsv files as 3.14.
    #[arg(long)]
    pub decimal_comma: bool,
    /// Keeps the rows whose value in the file satisfies the condition; OP is = != < <= > or >=. May be
    /// repeated: all conditions must hold. Example: --where 'family=GPT2,OPT' --where 'd_ft_tokens>0'
    #[arg(long = "where", value_name = "COLUMN OP VALUE")]
    pub filters: Vec<String>,
    /// Turns each column whose header is a number into a row: the first NAME gets the header, the
    /// second the cell. Example: --wide d_ft_tokens:loss_ft
    #[arg(long, value_name = "NAME:NAME")]
    pub wide: Option<String>,
    /// Fits the rows of each value of this column separately; none fits all rows together [default:
    /// domain, if there is such a column].
    #[arg(long, value_name = "COLUMN")]
    pub group_by: Option<String>,
    /// The column that identifies the run of each row; the bootstrap draws all rows of a run together
    /// [default: run; without it, each row is a run].
    #[arg(long, value_name = "COLUMN")]
    pub runs: Option<String>,
    /// The column with the weight of each row [default: weight; without it, 1].
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
