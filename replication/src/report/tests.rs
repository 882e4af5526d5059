use super::*;
use crate::blocks::MAIN;
use crate::figures::{FIGURES, Table};

use crate::results::planted::planted;
use forgetting_laws::fit::{Bootstrap, Fit, Options};
use forgetting_laws::laws::Row;
use plot::{self, Axis, Color, Line, Panel, Stroke};
use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The planted grid and its laws, from few resamples.
static PLANTED: LazyLock<(Results, Laws)> = LazyLock::new(|| {
    let results = planted();
    let bootstrap = Bootstrap { resamples: 60, ..Bootstrap::default() };
    let options = Options { bootstrap, hold_out: None, ..Options::default() };
    let laws = Laws::fitted(&results.table(MAIN), &options);
    (results, laws)
});

const TITLE: &str = "A <curve> & its \"name\"";

/// Figures of one curve.
const ONE: Figure = Figure { id: "one", draw: |_, _| curve("one"), ..OWN };
const TWO: Figure = Figure { id: "two", draw: |_, _| curve("two"), ..OWN };
const OWN: Figure = Figure {
    id: "",
    paper: "beyond the paper",
    title: TITLE,
    blocks: &[MAIN],
    draw: |_, _| Ok(Page::default()),
};

fn curve(name: &str) -> Result<Page> {
    let mut panel = Panel::new(Axis::linear("x"), Axis::linear("y"));
    let points = vec![(0.0, 1.0), (1.0, 2.0)];
    panel.lines.push(Line::new(points, Stroke::new(Color::BLACK, 1.0)));
    let finding = |claim: &str, verdict| Finding {
        claim: claim.into(),
        source: "abstract, quoted".into(),
        ours: format!("1 < 2 in {}", name),
        rule: "more than half are.".into(),
        verdict,
    };
    let second = Verdict::of(name == "one");
    Ok(Page {
        drawing: Some(plot::Figure::new(TITLE, vec![vec![panel]])),
        csv: vec![(name.into(), "x,y\n".into())],
        tables: vec![Table {
            caption: "Numbers | words".into(),
            columns: vec!["name".into(), "loss".into()],
            rows: vec![vec!["a|b".into(), "<1.5".into()]],
        }],
        findings: vec![
            finding("All agree.", Verdict::Supported),
            finding("They differ.", second),
            finding(name, Verdict::NotTestable),
        ],
        notes: vec!["One run is missing.".into()],
    })
}

type Pages = Vec<(&'static Figure, Page)>;

fn draw(figures: &[&'static Figure]) -> Pages {
    let (results, laws) = &*PLANTED;
    figures.iter().map(|figure| (*figure, (figure.draw)(results, laws).unwrap())).collect()
}

/// The figures of the tests, which are quickly drawn.
fn own() -> Pages {
    draw(&[&ONE, &TWO])
}

/// A folder with a report of these figures, its page and its Markdown.
fn written(pages: &[(&Figure, Page)]) -> (tempfile::TempDir, String, String) {
    let (results, laws) = &*PLANTED;
    let folder = tempfile::tempdir().unwrap();
    let paths = write(results, laws, pages, folder.path()).unwrap();
    let [html, markdown] = paths.map(|path| fs::read_to_string(path).unwrap());
    (folder, html, markdown)
}

/// Every figure of the project and those of the tests, with the page and the Markdown.
static ALL: LazyLock<(Pages, String, String)> = LazyLock::new(|| {
    let pages: Pages = draw(FIGURES).into_iter().chain(own()).collect();
    let (_, html, markdown) = written(&pages);
    (pages, html, markdown)
});

/// The values of an attribute, wherever it stands.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

#[test]
fn claims_are_grouped_by_what_all_figures_found_of_them() {
    let pages = own();
    let claims = claims(&pages);
    let groups: Vec<_> = groups(&claims)
        .into_iter()
        .map(|(heading, claims)| {
            (heading, claims.iter().map(|c| (c.claim, c.findings.len())).collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(
        groups,
        [
            ("Supported", vec![("All agree.", 2)]),
            ("Supported in part", vec![("They differ.", 2)]),
            ("Not testable at this scale", vec![("one", 1), ("two", 1)]),
        ]
    );
    assert_eq!(
        summary(&claims),
        "4 claims: 1 supported, 1 supported in part, 2 not testable at this scale."
    );
    assert_eq!(summary(&[]), "No claim was tested.");
}

#[test]
fn the_page_says_all_and_needs_nothing_else() {
    let (pages, html, markdown) = &*ALL;
    for (figure, page) in pages {
        let command = command(figure, &PLANTED.0);
        assert!(html.contains(&format!("<code>{command}</code>")), "{command}");
        assert!(markdown.contains(&format!("```sh\n{command}\n```")), "{command}");
        assert!(html.contains(&format!("<section id=\"{}\"", figure.id)));
        let image = format!("({0}/{0}.png)", figure.id);
        assert_eq!(markdown.contains(&image), page.drawing.is_some(), "{image}");
    }
    let hash = PLANTED.0.hash().to_string();
    assert!(html.contains(&hash) && markdown.contains(&hash));
    // Claims come before figures, and provenance after them.
    for text in [html, markdown] {
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what}"));
        assert!(place("All agree.") < place("cargo run -p replication -- one"));
        assert!(place("One run is missing.") < place("a planted machine"));
    }
    assert!(html.contains("A &lt;curve&gt; &amp; its &quot;name&quot;"));
    assert!(!html.contains("A <curve>"));
    assert!(markdown.contains("| a\\|b | <1.5 |"));
    for name in ["src", "href", "action", "poster", "data", "srcset"] {
        for target in attributes(html, name) {
            assert!(target.starts_with('#'), "{name} asks for {target}");
        }
    }
    for word in ["<link", "@import", "fetch(", "XMLHttpRequest", "import("] {
        assert!(!html.contains(word), "{word}");
    }
    let url = html.matches("url(").count();
    assert_eq!(url, html.matches("url(#").count());
}

#[test]
fn ids_are_unique_and_references_meet_them() {
    let (_, html, _) = &*ALL;
    let ids = attributes(html, "id");
    let unique: BTreeSet<_> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len());
    assert!(unique.contains("one-clip1") && unique.contains("two-clip1"));
    let hrefs = attributes(html, "href").into_iter().map(|target| &target[1..]);
    let clips = html.split("url(#").skip(1).filter_map(|rest| rest.split(')').next());
    let labels = ["for", "aria-labelledby"].map(|name| attributes(html, name)).concat();
    let labels = labels.into_iter().flat_map(str::split_whitespace);
    for id in hrefs.chain(clips).chain(labels) {
        assert!(unique.contains(id), "nothing has the id {id}");
    }
}

#[test]
fn equal_results_give_equal_bytes() {
    let (_a, html, markdown) = written(&own());
    let (_b, again, markdown_again) = written(&own());
    assert!(html == again && markdown == markdown_again);
}

/// The planted grid without injection, from which Equation 7 cannot be found, and its laws.
fn without_injection() -> (Results, Laws) {
    let mut results = PLANTED.0.clone();
    results.finetuned.retain(|run| run.p == 0.0);
    let options = Options { bootstrap: Bootstrap::NONE, hold_out: None, ..Options::default() };
    let laws = Laws::fitted(&results.table(MAIN), &options);
    (results, laws)
}

#[test]
fn domains_without_laws_say_why() {
    let (_, laws) = without_injection();
    let json: serde_json::Value = serde_json::from_str(&panel::json(&laws)).unwrap();
    let why = json[0]["forgetting"]["missing"].as_str().unwrap();
    assert!(why.contains("does not determine its B"), "{why}");
    assert_eq!(json[0]["finetuning"]["values"].as_array().unwrap().len(), 4);
    assert_eq!(json[0]["finetuning"]["level"], serde_json::Value::Null);
    assert_eq!(json[0]["knots"].as_array().unwrap().len(), 4);
}

#[test]
fn tables_are_named_by_what_stands_above_them() {
    let (_, html, _) = &*ALL;
    assert!(html.contains("<p class=\"caption\" id=\"one-table-0\">Numbers | words</p>"));
    assert!(html.contains("<table aria-labelledby=\"one-table-0\">"));
    assert!(html.contains("<td>a|b</td><td class=\"number\">&lt;1.5</td>"));
}

#[test]
fn lists_name_figures_without_remarks() {
    for (paper, expected) in [
        ("Figure 1 (arXiv v2)", "Figure 1 (arXiv v2)"),
        ("Figure 6 (arXiv v2; what it shows is unknown)", "Figure 6 (arXiv v2)"),
        ("Table 2; a remark", "Table 2"),
        ("beyond the paper", TITLE),
    ] {
        assert_eq!(name(&Figure { paper, ..OWN }), expected);
    }
}

/// A browser's process, ended with its owner.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The page as the browser has it after its scripts; `None` where no browser is found.
fn rendered(page: &Path, address: &str, profile: &Path) -> Option<String> {
    let out = profile.join("page.html");
    let log = fs::File::create(profile.join("log")).unwrap();
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--dump-dom",
    ];
    let named = std::env::var("CHROMIUM").ok();
    let names = named.as_deref().into_iter().chain(["chromium", "chromium-browser"]);
    let spawned = names.filter_map(|name| {
        Command::new(name)
            .args(flags)
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("file://{}#{address}", page.display()))
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(log.try_clone().unwrap())
            .spawn()
            .ok()
    });
    let mut browser = Browser({ spawned }.next()?);
    let begun = Instant::now();
    while browser.0.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the browser does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let dom = fs::read_to_string(&out).unwrap();
    let log = fs::read_to_string(profile.join("log")).unwrap_or_default();
    assert!(dom.contains("</html>"), "the browser gave no page: {log}");
    Some(dom)
}

/// What an output of the panel shows, and its numbers with all digits.
fn output(dom: &str, id: &str) -> (String, Vec<f64>) {
    let element = dom.split("<output ").find(|rest| attributes(&format!(" {rest}"), "id")[0] == id);
    let element = format!(" {}", element.unwrap_or_else(|| panic!("no output {id}")));
    let shown = element.split('>').nth(1).unwrap().split('<').next().unwrap().to_string();
    let numbers = attributes(&element, "data-value")[0].split(',').map(|x| x.parse().unwrap());
    (shown, numbers.collect())
}

/// Opens the page in a browser, and compares what the panel says with [`Fit::predict`].
#[test]
fn the_panel_says_what_the_laws_say() {
    let (folder, _, _) = written(&own());
    let page = folder.path().join("report.html");
    for (i, (domain, n, d, p, outside)) in
        [("far", 50_000.0, 4_000.0, 0.003, 0), ("near", 2e6, 41_120.0, 0.2, 4)]
            .into_iter()
            .enumerate()
    {
        let profile = folder.path().join(format!("profile-{i}"));
        fs::create_dir(&profile).unwrap();
        let address = format!("domain={domain}&n={n}&d={d}&p={p}&along=p");
        let Some(dom) = rendered(&page, &address, &profile) else {
            println!("skipped: no chromium; install it, or name one in the variable CHROMIUM");
            return;
        };
        let laws = PLANTED.1.domain(domain).unwrap();
        let fits: [&Fit; 2] =
            [laws.forgetting.as_ref().unwrap(), laws.finetuning.as_ref().unwrap()];
        let before = fits[0].loss_pt0_at(n).unwrap().loss_pt0;
        let row = Row { n_params: n, d_ft_tokens: d, p, loss_pt0: before, ..Row::default() };
        let close = |id: &str, expected: &[f64]| {
            let (shown, numbers) = output(&dom, id);
            assert_eq!(numbers.len(), expected.len(), "{id} shows {shown}");
            for (number, expected) in numbers.iter().zip(expected) {
                // Resamples are embedded with nine digits.
                let error = (number - expected).abs() / expected.abs();
                assert!(error < 1e-6, "{id}: {number} in place of {expected}");
            }
            shown
        };
        for (id, fit) in ["pt", "ft"].into_iter().zip(fits) {
            let prediction = fit.predict(&row);
            let shown = close(id, &[prediction.value]);
            assert_eq!(shown, format!("{:.3}", prediction.value), "four digits");
            let ends = |low: Option<f64>, high: Option<f64>| [low.unwrap(), high.unwrap()];
            close(&format!("{id}-law"), &ends(prediction.law_low, prediction.law_high));
            close(&format!("{id}-run"), &ends(prediction.low, prediction.high));
        }
        close("pt0", &[before]);
        close("rise", &[fits[0].predict(&row).value - before]);
        assert_eq!(
            dom.matches("<p class=\"warning\">").count() - 1,
            outside,
            "and one for noscript"
        );
        assert!(!dom.contains("id=\"panel\" hidden"));
    }
}

#[test]
fn the_panel_does_without_a_law_and_without_any() {
    let folder = tempfile::tempdir().unwrap();
    let dom = |name: &str, results: &Results, laws: &Laws| {
        let place = folder.path().join(name);
        let [page, _] = write(results, laws, &[], &place).unwrap();
        rendered(&page, "domain=far&n=50000&d=4000", &place)
    };
    let (results, laws) = without_injection();
    let Some(page) = dom("one", &results, &laws) else {
        println!("skipped: no chromium; install it, or name one in the variable CHROMIUM");
        return;
    };
    let row = Row { n_params: 5e4, d_ft_tokens: 4e3, ..Row::default() };
    let expected = laws.domain("far").unwrap().finetuning.as_ref().unwrap().predict(&row).value;
    assert_eq!(output(&page, "ft").0, format!("{expected:.3}"));
    assert_eq!(output(&page, "ft").1, [expected]);
    for (id, shown) in [("pt", "no law"), ("rise", "unknown"), ("effective", "unknown")] {
        assert!(page.contains(&format!("id=\"{id}\"")));
        let element = page.split(&format!("id=\"{id}\"")).nth(1).unwrap();
        assert_eq!(element.split('>').nth(1).unwrap().split('<').next(), Some(shown), "{id}");
    }
    assert!(page.contains("does not determine its B"));
    let page = dom("none", &results, &Laws(Vec::new())).unwrap();
    assert!(page.contains(">There are no laws: no run of the main grid counts.</p>"));
    assert!(page.contains("id=\"panel\" hidden"));
}
