//! Several adapters in one call: added up, merged, saved under a name; deadlines and usage.

use std::sync::Arc;

use openledger_app::api::{Api, ApiConfig, ApiSetup};
use openledger_app::routing::{Patience, Router};
use openledger_app::serving::wishes::MergeWish;
use openledger_app::serving::{
    AddOptions, Entry, InferenceConfig, Library, LocalServe, ModelsConfig, Serve, Wishes, add,
    codes, combine, forget_combination, whole,
};
use openledger_web::Token;
use openledger_wire::List;
use openledger_wire::call::{Call, CallEnd};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_serve::call;
use crate::process::json as output;
use crate::serving::{adapter_file, model_path};
use crate::workers::program;

struct Desk {
    folder: TempDir,
    library: Arc<Library>,
    serve: Arc<LocalServe>,
    base: Entry,
    adapters: Vec<Entry>,
}

fn desk(parallel: u16) -> Desk {
    let folder = tempfile::tempdir().unwrap();
    let library = Arc::new(Library::open(folder.path().join("data/models")));
    std::fs::create_dir_all(library.folder()).unwrap();
    let in_place =
        AddOptions { in_place: true, name: Some("smol".to_owned()), ..AddOptions::default() };
    let base = add(&library, &model_path(), &in_place).unwrap();
    // Of one rank, as merges need them.
    let adapter = |seed| {
        let file = adapter_file(&folder, seed, 8);
        add(&library, &file, &AddOptions::default()).unwrap()
    };
    let adapters = vec![adapter(1), adapter(2)];
    let config = ModelsConfig { threads: 2, parallel, ..ModelsConfig::default() };
    let inference = InferenceConfig::default();
    let serve = LocalServe::new(Arc::clone(&library), program(), config, inference);
    Desk { folder, library, serve: Arc::new(serve), base, adapters }
}

impl Desk {
    fn call(&self, weights: [u32; 2], tokens_max: u32) -> Call {
        let adapters: Vec<_> = self
            .adapters
            .iter()
            .zip(weights)
            .filter(|(_, weight)| *weight > 0)
            .map(|(adapter, weight)| (adapter.blob, weight))
            .collect();
        let adapters = List::new(adapters).unwrap();
        Call { model: self.base.blob, adapters, ..call("Tell me of the sea.", tokens_max) }
    }

    async fn answer(&self, call: Call, merge: Option<MergeWish>) -> (Vec<u32>, CallEnd) {
        let wishes = Wishes { merge, ..Wishes::default() };
        let stream = self.serve.call_with(call, wishes).await.unwrap();
        let (tokens, end) = whole(stream).await.unwrap();
        (tokens.iter().map(|token| token.token).collect(), end)
    }
}

fn ties() -> MergeWish {
    MergeWish { strategy: "ties".to_owned(), density_permille: 500, ..MergeWish::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_are_added_up_or_merged_and_what_was_computed_is_found_again() {
    let desk = desk(16);
    let (first, _) = desk.answer(desk.call([1_000, 0], 12), None).await;
    let (sum, _) = desk.answer(desk.call([1_000, 1_000], 12), None).await;
    let (merged, end) = desk.answer(desk.call([1_000, 1_000], 12), Some(ties())).await;
    assert!(first != sum && sum != merged && first != merged);
    assert_eq!(end.cached_tokens, 0);
    let (again, end) = desk.answer(desk.call([1_000, 1_000], 12), Some(ties())).await;
    assert_eq!(again, merged);
    assert!(end.cached_tokens > 0 && end.cached_tokens < end.prompt_tokens, "{end:?}");
    // A sum that is spelled out is the same as one that is not.
    let spelled = desk.answer(desk.call([1_000, 1_000], 12), Some(MergeWish::default())).await;
    assert_eq!(spelled.0, sum);
    let (bare, _) = desk.answer(desk.call([0, 0], 12), None).await;
    assert_ne!(bare, sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_begin_in_time_fails_and_says_so() {
    let desk = desk(1);
    let mut long = desk.serve.call(desk.call([0, 0], 600)).await.unwrap();
    long.recv().await.unwrap();
    let wishes = Wishes { timeout_ms: 60, ..Wishes::default() };
    let late = desk.serve.call_with(desk.call([0, 0], 5), wishes).await.unwrap();
    let failure = whole(late).await.unwrap_err();
    assert_eq!(&*failure.code, codes::DEADLINE, "{failure:?}");
    assert!(!long.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn combinations_are_called_by_their_names_and_merges_in_the_words_of_lorax() {
    let desk = desk(16);
    let [one, two] = [&desk.adapters[0].name, &desk.adapters[1].name];
    let parts = vec![format!("{one}:0.6"), format!("{two}:0.4")];
    combine(&desk.library, "both", Some("smol"), &parts, ties()).unwrap();
    let local = Arc::clone(&desk.serve) as Arc<dyn Serve>;
    let router = Router::new(local, Vec::new(), None, Patience::default());
    let token = Token::generate().unwrap();
    let setup = ApiSetup {
        config: ApiConfig::default(),
        base: String::new(),
        token: token.clone(),
        router,
        problem: Arc::new(|_| None),
    };
    let api = Api::start(setup).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |more: Value| {
        let mut body = json!({
            "messages": [{"role": "user", "content": "Tell me of the sea."}],
            "max_tokens": 10, "temperature": 0, "seed": 5,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = http.post(format!("{}/chat/completions", api.url()));
        let sent = request.bearer_auth(token.reveal()).json(&body).send();
        async move {
            let response = sent.await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let text = |answer: &Value| answer["choices"][0]["message"]["content"].clone();
    let (status, named) = ask(json!({"model": "both"})).await;
    assert_eq!(status, 200, "{named}");
    let merged = json!({
        "ids": [one, two], "weights": [0.6, 0.4], "merge_strategy": "ties", "density": 0.5,
    });
    let (status, spelled) = ask(json!({"model": "smol", "merged_adapters": merged})).await;
    assert_eq!((status, text(&spelled)), (200, text(&named)));
    assert!(spelled["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
    let weighted = json!([{"name": one, "weight": 0.6}, {"name": two, "weight": 0.4}]);
    let (status, sum) = ask(json!({"model": "smol", "adapters": weighted})).await;
    assert_eq!(status, 200);
    assert_ne!(text(&sum), text(&named));
    for (more, part) in [
        (json!({"model": one, "adapter_id": two}), "must name a base"),
        (json!({"model": "smol", "adapter_id": "nobody"}), "nobody"),
        (json!({"model": "smol", "adapters": ["smol"]}), "no adapter"),
        (json!({"model": "smol", "adapters": [one, one]}), "twice"),
    ] {
        let (status, error) = ask(more).await;
        assert!(status == 400 || status == 404, "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(part), "{error}");
    }
    let listed = http.get(format!("{}/models", api.url())).bearer_auth(token.reveal());
    let listed: Value = listed.send().await.unwrap().json().await.unwrap();
    let is_it = |one: &&Value| one["id"] == "both";
    let both = listed["data"].as_array().unwrap().iter().find(is_it).unwrap();
    assert_eq!(both["openledger"]["merge_strategy"], "ties");
    assert!(forget_combination(&desk.library, "both").unwrap());
    assert_eq!(ask(json!({"model": "both"})).await.0, 404);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn combinations_are_made_and_shown_on_the_command_line() {
    let desk = desk(1);
    let data = desk.folder.path().join("data");
    let [one, two] = [desk.adapters[0].name.clone(), desk.adapters[1].name.clone()];
    let args =
        ["model", "combine", "mixed", &format!("{one}:0.25"), &two, "--strategy", "dare_ties"];
    let saved = output(&data, &args);
    assert_eq!(
        (&saved["name"], &saved["merge"]["density_permille"]),
        (&json!("mixed"), &json!(500))
    );
    let listed = crate::process::command(&data, &["model", "list"]);
    let listed = crate::process::text(&listed);
    let line = listed.lines().find(|line| line.starts_with("mixed")).unwrap();
    assert!(line.contains(&format!("{one}:0.25 + {two}:1 on smol by dare_ties")), "{listed}");
    output(&data, &["model", "remove", "mixed"]);
    assert!(output(&data, &["model", "list"])["combinations"].as_array().unwrap().is_empty());
}
