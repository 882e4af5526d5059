use super::*;
use crate::laws::by_name;
use crate::warning::WarningKind;
use proptest::prelude::*;
use std::path::PathBuf;

/// As the command reads a table when nothing is asked.
fn flags() -> Reading {
    Reading { naming: Naming::Flag, ..Reading::default() }
}

fn reading(map: &[&str], filters: &[&str], wide: Option<&str>) -> Reading {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Reading { map: owned(map), filters: owned(filters), wide: wide.map(str::to_owned), ..flags() }
}

/// The table of a text in a file of this name.
fn load(name: &str, text: &str, reading: &Reading) -> Result<Table, String> {
    let path = Path::new(name);
    let plan = Plan::new(reading).map_err(|error| error.to_string())?;
    let records = parse(path, text.into(), reading.decimal_comma);
    let table = records.and_then(|records| Ok(table(path, records, &plan)?.0));
    table.map_err(|error| {
        let message = error.to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    })
}

fn csv(text: &str, reading: &Reading) -> Result<Table, String> {
    load("a.csv", text, reading)
}

fn values(table: &Table, column: Column) -> Vec<Option<f64>> {
    table.runs.iter().map(|run| run.get(column)).collect()
}

#[test]
fn the_projects_own_columns_are_read_in_any_order() {
    let text = "loss_ft,seed,domain,n_params,extra,d_ft_tokens,d_tokens,p,loss_pt0,loss_pt,loss,run,\
                weight\n2.5,7,maths,1e6,x,300000,2e9,0.01,3.1,3.2,3.3,r 1,2\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("A.CSV");
    fs::write(&path, text).unwrap();
    let Loaded { table, fields, sha256: hash } = read(&path, &Reading::default()).unwrap();
    assert_eq!(hash, sha256(text.as_bytes()));
    let run = &table.runs[0];
    let numbers = Column::ALL.map(|column| run.get(column).unwrap());
    assert_eq!(numbers, [1e6, 3e5, 2e9, 0.01, 3.1, 3.2, 2.5, 3.3]);
    assert_eq!((run.domain.as_str(), run.seed.as_str(), run.run.as_str()), ("maths", "7", "r 1"));
    assert_eq!((run.weight, run.line), (2.0, Some(2)));
    assert_eq!(table.columns[..3], ["loss_ft", "seed", "domain"]);
    let read_too = |name: &&str| !["parent_id", "epochs", "interior"].contains(name);
    assert_eq!(fields, FIELDS.into_iter().filter(read_too).collect::<Vec<_>>());
    assert_eq!((table.path, table.warnings), (path, vec![]));
}

#[test]
fn formats_agree() {
    let csv = "\u{feff}domain,n_params,loss\r\na,1,2.5\r\nb,3,\r\n";
    let tsv = "domain\tn_params\tloss\na\t1\t2.5\nb\t3\t\n";
    let lines = "{\"domain\": \"a\", \"n_params\": 1, \"loss\": 2.5}\n\
                 {\"domain\": \"b\", \"n_params\": \"3\", \"loss\": null}\n";
    let array = "[{\"domain\": \"a\", \"n_params\": 1, \"loss\": 2.5},\n\
                 {\"domain\": \"b\", \"n_params\": 3}]";
    let expected = load("a.csv", csv, &Reading::default()).unwrap();
    assert_eq!(values(&expected, Column::Loss), [Some(2.5), None]);
    assert_eq!(values(&expected, Column::P), [None, None]);
    for (name, text) in [
        ("a.tsv", tsv),
        ("a.jsonl", lines),
        ("a.ndjson", lines),
        ("a.json", lines),
        ("a.json", array),
    ] {
        let table = load(name, text, &Reading::default()).unwrap();
        assert_eq!(table.columns, expected.columns);
        for (run, expected) in table.runs.iter().zip(&expected.runs) {
            assert_eq!(run.domain, expected.domain);
            for column in Column::ALL {
                assert_eq!(run.get(column), expected.get(column), "{name} {column}");
            }
        }
        assert_eq!(table.runs.len(), 2);
    }
}

#[test]
fn other_columns_are_taken_for_names() {
    let text = "Model Size,final loss,name,p\n10,3,x,0.5\n20,2,y,0.6\n";
    let map = ["n_params=Model Size", "d_tokens = Model Size", "loss=final loss", "domain=name"];
    let table = csv(text, &reading(&map, &[], None)).unwrap();
    assert_eq!(values(&table, Column::NParams), [Some(10.0), Some(20.0)]);
    assert_eq!(values(&table, Column::DTokens), [Some(10.0), Some(20.0)]);
    assert_eq!(values(&table, Column::Loss), [Some(3.0), Some(2.0)]);
    assert_eq!(values(&table, Column::P), [Some(0.5), Some(0.6)]);
    assert_eq!(table.runs[1].domain, "y");

    let more =
        Reading { runs: Some("name".into()), weight: Some("p".into()), ..reading(&map, &[], None) };
    let table = csv(text, &more).unwrap();
    assert_eq!((table.runs[0].run.as_str(), table.runs[0].weight), ("x", 0.5));
}

#[test]
fn groups_are_made_by_a_name_or_a_column() {
    let text = "domain,family,n_params\nd,f,10\n";
    for (map, by, expected) in [
        (&[][..], None, "d"),
        (&[], Some("domain"), "d"),
        (&[], Some("family"), "f"),
        (&["domain=family"], Some("domain"), "f"),
        (&["domain=family"], Some("n_params"), "10"),
        (&["seed=n_params"], Some("seed"), "10"),
    ] {
        let by = Reading { group_by: by.map(str::to_owned), ..reading(map, &[], None) };
        assert_eq!(csv(text, &by).unwrap().runs[0].domain, expected, "{by:?}");
    }
    let by = Reading { group_by: Some("size".into()), ..flags() };
    let expected = "a.csv: --group-by size needs the column size, which does not exist; the columns are \
                    domain, family, n_params";
    assert_eq!(csv(text, &by).unwrap_err(), expected);
}

const WIDE: &str = "config name,0,200,size,family\nfirst,5,4,100,GPT\nsecond,6,,200,OPT\n";

#[test]
fn wide_tables_are_long_ones() {
    let map = ["n_params=size", "domain=family"];
    let wide = Some("d_ft_tokens:loss_ft");
    let table = csv(WIDE, &reading(&map, &["d_ft_tokens>0"], wide)).unwrap();
    assert_eq!(values(&table, Column::NParams), [Some(100.0), Some(200.0)]);
    assert_eq!(values(&table, Column::DFtTokens), [Some(200.0), Some(200.0)]);
    assert_eq!(values(&table, Column::LossFt), [Some(4.0), None]);
    assert_eq!(table.runs[1].line, Some(3));
    assert_eq!(table.columns, ["config name", "0", "200", "size", "family"]);

    let table = csv(WIDE, &reading(&map, &["config name=second", "loss_ft!="], wide)).unwrap();
    assert_eq!(values(&table, Column::DFtTokens), [Some(0.0)]);
}

#[test]
fn percentages_and_decimal_commas_are_read_where_asked() {
    let p = |text: &str, reading: &Reading| csv(text, reading).map(|t| values(&t, Column::P));
    let percent = Reading { percent: true, ..flags() };
    let numbers = "p,loss\n0,3\n0.7,3\n5,3\n";
    assert_eq!(p(numbers, &percent).unwrap(), [Some(0.0), Some(0.007), Some(0.05)]);
    assert_eq!(p(numbers, &Reading::default()).unwrap()[2], Some(5.0));
    let signs = "p,loss\n0,3\n0.7%,3\n5 %,3\n,3\n";
    for options in [&percent, &Reading::default()] {
        let read = p(signs, options).unwrap();
        assert_eq!(read, [Some(0.0), Some(0.007), Some(0.05), None]);
    }
    // Other columns know no percentages.
    let expected = "a.csv, line 2: loss is \"3%\", which is not a number";
    assert_eq!(csv("loss\n3%\n", &percent).unwrap_err(), expected);

    let german = "n_params;p;loss\n4.000.000;0,5;3,25\n";
    let commas = Reading { decimal_comma: true, ..percent };
    let table = csv(german, &commas).unwrap();
    let run = &table.runs[0];
    assert_eq!((run.row.n_params, run.row.p, run.loss), (4e6, 0.005, Some(3.25)));
    let expected = "a.csv, line 2: loss is \"3,25\", which is not a number; --decimal-comma reads \
                    it as 3.25";
    let points = german.replace("4.000.000", "4e6").replace("0,5", "0.5");
    assert_eq!(csv(&points, &flags()).unwrap_err(), expected);
    let expected = "a.csv, line 2: loss is \"3.250\", which is not a number; with decimal commas \
                    it may be 3250 or 3.250: write 3250 or 3,250";
    assert_eq!(csv("n;loss\n1;3.250\n", &commas).unwrap_err(), expected);
}

/// Names of Weights & Biases' charts hold operators.
#[test]
fn filters_name_any_column() {
    let text = "Step,lm-4M lr=0.001 - eval/loss,lm-4M lr=0.001 - eval/loss__MIN\n1,10,1\n2,3,1\n";
    let map = "loss=lm-4M lr=0.001 - eval/loss";
    let kept = |filter: &str| {
        csv(text, &reading(&[map], &[filter], None)).map(|table| values(&table, Column::Loss))
    };
    for filter in ["lm-4M lr=0.001 - eval/loss<9", "loss<=9", "lm-4M lr=0.001 - eval/loss != 10"] {
        assert_eq!(kept(filter).unwrap(), [Some(3.0)], "{filter}");
    }
    let message = kept("lm-4M lr=0.002 - eval/loss<9").unwrap_err();
    let start = "a.csv: --where lm-4M lr=0.002 - eval/loss<9 needs the column lm-4M lr, which does not exist;";
    assert!(message.starts_with(start), "{message}");
    assert_eq!(kept("loss<0").unwrap_err(), "a.csv: no row of 2 has loss<0");
}

/// A mapped name stands for its column, and the file's own names stay.
#[test]
fn filters_know_both_names() {
    let text = "size,p,domain\n1,0,a\n2,0.1,b\n3,0.2,b\n";
    let kept = |filters: &[&str]| {
        let map = reading(&["n_params=size", "domain=p"], filters, None);
        csv(text, &map).map(|table| values(&table, Column::NParams))
    };
    assert_eq!(kept(&["n_params>1"]).unwrap(), kept(&["size>1"]).unwrap());
    assert_eq!(kept(&["size>1", "p<0.2"]).unwrap(), [Some(2.0)]);
    assert_eq!(kept(&["domain=0.2"]).unwrap(), [Some(3.0)]);
    let expected = "a.csv: --where family=x needs the column family, which does not exist; the columns are \
                    size, p, domain";
    assert_eq!(kept(&["family=x"]).unwrap_err(), expected);
    let expected = "a.csv: no row of 3 has size>1 and p=7";
    assert_eq!(kept(&["size>1", "p=7"]).unwrap_err(), expected);
    let message = kept(&["size>b"]).unwrap_err();
    assert!(message.starts_with("a.csv, line 2: size is \"1\", which is neither"), "{message}");
}

#[test]
fn what_is_no_number_is_refused_with_its_line() {
    let text = "n_params,loss,note\n1,2,x\n2,3.5 nats,y\n";
    let expected = "a.csv, line 3: loss is \"3.5 nats\", which is not a number";
    assert_eq!(csv(text, &Reading::default()).unwrap_err(), expected);
    let expected = "a.csv, line 2: note (p) is \"x\", which is not a number";
    assert_eq!(csv(text, &reading(&["p=note"], &[], None)).unwrap_err(), expected);
    // A row that is not read may hold anything.
    assert!(csv(text, &reading(&[], &["n_params<2"], None)).is_ok());
    let lines = "{\"loss\": 1}\n{\"loss\": [2]}\n{\"domain\": {}, \"loss\": 3}\n";
    let expected = "a.jsonl, line 2: loss is a list or another value that is neither a number nor \
                    text, which is not a number";
    assert_eq!(load("a.jsonl", lines, &Reading::default()).unwrap_err(), expected);
    let message = load("a.jsonl", lines, &reading(&[], &["loss=3"], None)).unwrap_err();
    assert!(message.starts_with("a.jsonl, line 3: domain is a list or another"), "{message}");
}

/// A loss that is not finite waits for a law that needs it; of a size, nobody could tell it from
/// one that is not known.
#[test]
fn sizes_that_are_nan_are_refused_and_losses_are_read() {
    let table = csv("loss,loss_pt,loss_ft\nnan,-inf,INF\n", &Reading::default()).unwrap();
    assert!(table.runs[0].loss.unwrap().is_nan());
    assert_eq!(table.runs[0].loss_pt, Some(f64::NEG_INFINITY));
    assert_eq!(table.runs[0].loss_ft, Some(f64::INFINITY));
    for name in ["n_params", "d_ft_tokens", "d_tokens", "p", "loss_pt0"] {
        let expected = format!(
            "a.csv, line 3: {name} is \"NaN\", which is not a number; leave it empty if it is \
             unknown"
        );
        assert_eq!(
            csv(&format!("x,{name}\n1,1\n2,NaN\n"), &Reading::default()).unwrap_err(),
            expected
        );
        let table = csv(&format!("x,{name}\n1,inf\n2,\n"), &Reading::default()).unwrap();
        let column = Column::ALL.into_iter().find(|column| column.name() == name).unwrap();
        assert_eq!(values(&table, column), [Some(f64::INFINITY), None]);
    }
}

#[test]
fn a_missing_weight_is_refused_by_the_fit_and_not_taken_for_one() {
    let table = csv("loss,weight\n1,2\n2,\n", &Reading::default()).unwrap();
    assert_eq!(table.runs[0].weight, 2.0);
    assert!(table.runs[1].weight.is_nan());
    assert_eq!(csv("loss\n1\n", &Reading::default()).unwrap().runs[0].weight, 1.0);
}

/// Twins differ in nothing, and what nobody reads tells rows apart too.
#[test]
fn twins_count_once_and_replicates_stay() {
    let text = "n_params,loss,note\n1,2,x\n1,2,x\n1,2,y\n1,3,x\n";
    let table = csv(text, &Reading::default()).unwrap();
    assert_eq!(values(&table, Column::Loss), [Some(2.0), Some(2.0), Some(3.0)]);
    let warning = "1 of 4 rows repeats another in every column and is counted once: line 3";
    assert_eq!(table.warnings, [WarningKind::RepeatedRows.warn(warning)]);
}

#[test]
fn headers_that_occur_twice_are_refused_where_they_are_needed() {
    let text = "loss,x,x\n1,2,3\n";
    assert!(csv(text, &Reading::default()).is_ok());
    let expected = "a.csv: several columns are named x; rename all but one";
    assert_eq!(csv(text, &reading(&["p=x"], &[], None)).unwrap_err(), expected);
    assert_eq!(csv(text, &reading(&[], &["x=1"], None)).unwrap_err(), expected);
    let twice = csv("loss,loss\n1,2\n", &Reading::default()).unwrap_err();
    assert_eq!(twice, "a.csv: several columns are named loss; rename all but one");
}

#[test]
fn settings_are_refused_by_their_name() {
    let refusal = |reading: &Reading| Plan::new(reading).unwrap_err().to_string();
    let map = |map: &[&str]| refusal(&reading(map, &[], None));
    for text in ["", "p", "p=", "p= ", "q=x", "=x"] {
        let message = map(&[text]);
        let start = format!("--map = {text}: must be NAME=COLUMN, and NAME one of n_params, ");
        assert!(message.starts_with(&start) && message.ends_with("epochs, interior"), "{message}");
    }
    assert_eq!(map(&["p=x", "p=y"]), "--map = p=y: --map p=x already sets p");
    let both = Reading { runs: Some("name".into()), ..reading(&["run=id"], &[], None) };
    assert_eq!(refusal(&both), "--runs = name: --map run=id already sets run");
    let both = Reading { weight: Some("w".into()), ..reading(&["weight=v"], &[], None) };
    assert_eq!(refusal(&both), "--weight = w: --map weight=v already sets weight");
    for name in ["loss_ft", "d_ft_tokens"] {
        let message = refusal(&reading(&[&format!("{name}=x")], &[], Some("d_ft_tokens:loss_ft")));
        let expected = format!("--map = {name}=x: --wide d_ft_tokens:loss_ft already sets {name}");
        assert_eq!(message, expected);
    }
    assert!(refusal(&reading(&[], &["p"], None)).starts_with("--where = p: "));
    assert!(refusal(&reading(&[], &[], Some("p"))).starts_with("--wide = p: "));
}

/// As fields where a library's user reads, and as options where the command's does.
#[test]
fn messages_name_settings_as_their_reader_knows_them() {
    let refusal = |reading: &Reading| csv("n;loss\n1;3,25\n", reading).unwrap_err();
    for (naming, group_by, comma, filters) in [
        (Naming::Field, "group_by", "decimal_comma", "filters"),
        (Naming::Flag, "--group-by", "--decimal-comma", "--where"),
    ] {
        let reading = Reading { naming, ..Reading::default() };
        assert!(refusal(&reading).ends_with(&format!("; {comma} reads it as 3.25")));
        let by = Reading { group_by: Some("x".into()), ..reading.clone() };
        assert!(refusal(&by).contains(&format!("{group_by} x needs the column x, which")));
        for (filter, start) in [
            ("x>1", format!("a.csv: {filters} x>1 needs the column x, which")),
            ("x", format!("{filters} = x: must be COLUMN OP VALUE")),
            ("loss>1", "a.csv, line 2: loss is \"3,25\", which is neither above".into()),
        ] {
            let message = refusal(&Reading { filters: vec![filter.into()], ..reading.clone() });
            assert!(message.starts_with(&start), "{message}");
        }
    }
}

#[test]
fn missing_columns_are_refused_with_those_that_there_are() {
    let expected = "a.csv: --map n_params=size needs the column size, which does not exist; the columns are \
                    a, config name";
    let asked = reading(&["n_params=size"], &[], None);
    assert_eq!(csv("a,config name\n1,2\n", &asked).unwrap_err(), expected);
    let asked = Reading { runs: Some("id".into()), ..flags() };
    let message = csv("a\n1\n", &asked).unwrap_err();
    assert!(
        message.starts_with("a.csv: --runs id needs the column id, which does not exist;"),
        "{message}"
    );
}

#[test]
fn files_that_hold_no_table_are_refused() {
    let none = Reading::default();
    let names = "the name must end in .csv, .tsv, .jsonl, .ndjson, .json, .parquet";
    for name in ["a.txt", "a", "a.csv.gz"] {
        assert_eq!(load(name, "a\n1\n", &none).unwrap_err(), format!("{name}: {names}"));
    }
    for name in ["a.csv", "a.jsonl", "a.parquet"] {
        assert_eq!(load(name, "", &none).unwrap_err(), format!("{name}: the file is empty"));
    }
    for (name, text) in [("a.csv", "a,b\n"), ("a.jsonl", "\n\n"), ("a.json", "[]")] {
        assert_eq!(load(name, text, &none).unwrap_err(), format!("{name}: the file has no rows"));
    }
    let missing = read(&PathBuf::from("no/such.csv"), &Reading::default()).unwrap_err();
    assert!(missing.to_string().starts_with("no/such.csv: "), "{missing}");
    assert!(matches!(missing, Error::Io { .. }));
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4f4f\nsize 548\n";
    for (text, what) in [(pointer, "a git-lfs pointer"), ("<!DOCTYPE html>", "an HTML or XML page")]
    {
        for name in ["a.csv", "a.jsonl", "a.json", "a.parquet"] {
            let message = load(name, text, &none).unwrap_err();
            assert!(message.starts_with(&format!("{name}: it is {what}")), "{message}");
        }
    }
    // Spreadsheets have headers of several lines.
    let table = csv("\"loss\r\n(nats)\",n_params\n3,1\n", &none).unwrap();
    let message = table.sample(by_name("additive").unwrap()).unwrap_err().to_string();
    assert!(message.contains("; the columns are loss (nats), n_params; "), "{message}");
    let latin = utf8(Path::new("a.csv"), b"a\n\nb\xe9\n").unwrap_err().to_string();
    assert_eq!(latin, "a.csv, line 3: is not UTF-8 text; save the file as UTF-8");
}

/// The table of real losses of finetuning that FIELD.md describes.
#[test]
fn a_published_wide_table_is_read() {
    let folder = std::env::var_os("FORGETTING_LAWS_REFERENCE").filter(|folder| !folder.is_empty());
    let Some(folder) = folder else {
        eprintln!("skipped: FORGETTING_LAWS_REFERENCE names no folder with flan.csv");
        return;
    };
    let path = PathBuf::from(folder).join("rectified-finetuning/flan.csv");
    let map = ["n_params=size", "domain=family"];
    let options = reading(&map, &["d_ft_tokens>0"], Some("d_ft_tokens:loss_ft"));
    let table = read(&path, &options).unwrap().table;
    assert_eq!(table.runs.len(), 30 * 14);
    assert!(table.runs.iter().all(|run| run.loss_ft.is_some() && run.row.d_ft_tokens >= 200.0));
    assert!(table.groups().len() > 4 && table.warnings.is_empty());
}

proptest! {
    /// What Rust prints of a number is read as that number, in each format.
    #[test]
    fn numbers_are_read_to_the_last_bit(losses in prop::collection::vec(any::<f64>(), 1..5)) {
        let finite: Vec<_> = losses.into_iter().filter(|loss| loss.is_finite()).collect();
        prop_assume!(!finite.is_empty());
        let rows = finite.iter().enumerate();
        let text: String = rows.clone().map(|(i, loss)| format!("{i},{loss}\n")).collect();
        let table = csv(&format!("n,loss\n{text}"), &Reading::default()).unwrap();
        prop_assert_eq!(values(&table, Column::Loss), finite.iter().copied().map(Some).collect::<Vec<_>>());
        let text: String =
            rows.map(|(i, loss)| format!("{{\"n\":{i},\"loss\":{loss:e}}}\n")).collect();
        let table = load("a.jsonl", &text, &Reading::default()).unwrap();
        prop_assert_eq!(values(&table, Column::Loss), finite.into_iter().map(Some).collect::<Vec<_>>());
    }
}
