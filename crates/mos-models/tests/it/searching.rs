//! Search services in their own formats.

use std::sync::Arc;
use std::time::Duration;

use mos_core::{InternetRetriever, ModelError, WebPage};
use mos_models::{
    BingSearch, BochaSearch, GoogleSearch, HttpOptions, Secret, TavilyOptions, TavilySearch, WebSearchOptions,
    XinyuSearch,
};
use mos_testkit::json_server::{Answer, JsonServer, Request};
use serde_json::{Value, json};

use crate::{KEY, server};

fn options(at: &JsonServer) -> WebSearchOptions {
    WebSearchOptions {
        endpoint: Some(at.url("/search")),
        http: server(String::new()).http,
        ..WebSearchOptions::new(Secret::new(KEY))
    }
}

fn tavily(at: &JsonServer) -> TavilyOptions {
    TavilyOptions::new(options(at))
}

/// Every service, each with an answer of its own format that has these entries.
/// A service, and how it writes pages into an answer.
type Service = (Arc<dyn InternetRetriever>, fn(&[Value]) -> Value);

fn services(at: &JsonServer) -> Vec<Service> {
    vec![
        (GoogleSearch::open(options(at), "engine").unwrap(), google),
        (BingSearch::open(&options(at)).unwrap(), bing),
        (BochaSearch::open(&options(at)).unwrap(), bocha),
        (TavilySearch::open(tavily(at)).unwrap(), tavily_answer),
        (XinyuSearch::open(&options(at)).unwrap(), xinyu),
    ]
}

fn google(entries: &[Value]) -> Value {
    let items: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({"link": entry["url"], "title": entry["title"], "snippet": entry["text"],
                   "pagemap": {"metatags": [{"article:published_time": entry["date"]}]}})
        })
        .collect();
    // The service leaves the list out when it is empty.
    if items.is_empty() { json!({"kind": "customsearch#search"}) } else { json!({"items": items}) }
}

fn pages_of_bing(entries: &[Value]) -> Value {
    let value: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({"name": entry["title"], "url": entry["url"], "snippet": entry["text"], "datePublished": entry["date"]})
        })
        .collect();
    if value.is_empty() {
        json!({"_type": "SearchResponse"})
    } else {
        json!({"_type": "SearchResponse", "webPages": {"value": value}})
    }
}

fn bing(entries: &[Value]) -> Value {
    pages_of_bing(entries)
}

fn bocha(entries: &[Value]) -> Value {
    json!({"code": 200, "msg": null, "data": pages_of_bing(entries)})
}

fn tavily_answer(entries: &[Value]) -> Value {
    let results: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({"title": entry["title"], "url": entry["url"], "content": entry["text"],
                   "published_date": entry["date"], "score": 0.5})
        })
        .collect();
    json!({"query": "q", "results": results})
}

fn xinyu(entries: &[Value]) -> Value {
    let online: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({"title": entry["title"], "url": entry["url"], "summary": entry["text"], "publish_time": entry["date"]})
        })
        .collect();
    json!({"results": {"online": online}})
}

fn entry(number: usize) -> Value {
    json!({"url": format!("https://example.org/{number}"), "title": format!("<b>Title</b> {number}"),
           "text": format!("The <em>text</em> of&nbsp;{number} &amp; more"), "date": "2024-05-01"})
}

fn entries(count: usize) -> Vec<Value> {
    (1..=count).map(entry).collect()
}

#[tokio::test]
async fn every_service_answers_with_plain_pages() {
    let at = JsonServer::start().await;
    for (service, format) in services(&at) {
        at.answer(Answer::json(&format(&entries(2))));
        let pages = service.search("where is Paris?", 5).await.unwrap();
        let expected: Vec<WebPage> = (1..=2)
            .map(|number| WebPage {
                url: format!("https://example.org/{number}"),
                title: format!("Title {number}"),
                summary: format!("The text of {number} & more"),
                content: String::new(),
                published: Some("2024-05-01".to_owned()),
                score: (service.name() == "tavily").then_some(0.5),
            })
            .collect();
        assert_eq!(pages, expected, "{}", service.name());
        at.answer(Answer::json(&format(&[])));
        assert_eq!(service.search("nothing", 5).await.unwrap(), [], "{}", service.name());
    }
}

#[tokio::test]
async fn keys_and_queries_travel_as_each_service_wants() {
    let at = JsonServer::start().await;
    let mut requests: Vec<Request> = Vec::new();
    for (service, format) in services(&at) {
        at.answer(Answer::json(&format(&entries(1))));
        service.search("  where is Paris? ", 3).await.unwrap();
        requests.extend(at.take_requests());
    }
    let [google, bing, bocha, tavily, xinyu] = requests.as_slice() else { panic!("{requests:?}") };
    let parameter = |request: &Request, name: &str| request.query.get(name).cloned().unwrap_or_default();
    assert_eq!((google.method.as_str(), parameter(google, "key").as_str()), ("GET", KEY));
    assert_eq!((parameter(google, "cx").as_str(), parameter(google, "q").as_str()), ("engine", "where is Paris?"));
    assert_eq!((parameter(google, "num").as_str(), parameter(google, "start").as_str()), ("3", "1"));
    assert_eq!((bing.method.as_str(), bing.header("ocp-apim-subscription-key")), ("GET", Some(KEY)));
    assert_eq!((parameter(bing, "q").as_str(), parameter(bing, "count").as_str()), ("where is Paris?", "3"));
    let bearer = format!("Bearer {KEY}");
    for request in [bocha, tavily] {
        assert_eq!((request.method.as_str(), request.header("authorization")), ("POST", Some(bearer.as_str())));
        assert_eq!(request.body["query"], "where is Paris?");
    }
    assert_eq!((&bocha.body["count"], &bocha.body["summary"]), (&json!(3), &json!(true)));
    assert_eq!((&tavily.body["max_results"], &tavily.body["search_depth"]), (&json!(3), &json!("basic")));
    assert_eq!((xinyu.method.as_str(), xinyu.header("token")), ("POST", Some(KEY)));
    assert_eq!(
        (&xinyu.body["queries"], &xinyu.body["online_search"]["max_entries"]),
        (&json!("where is Paris?"), &json!(3))
    );
    assert_eq!(xinyu.body["search_type"], json!(["online"]));
    for request in &requests[1..] {
        assert!(!format!("{:?}", request.query).contains(KEY), "only one service wants its key in the address");
    }
}

#[tokio::test]
async fn services_that_answer_in_pieces_are_asked_for_more() {
    let at = JsonServer::start().await;
    let piece = |name: &'static str, first: &'static str, base: usize| {
        move |request: &Request| {
            let number = |key: &str| request.query[key].parse::<usize>().unwrap();
            let (start, count) = (number(first) - base, number(name));
            let entries: Vec<Value> = (start + 1..=(start + count).min(25)).map(entry).collect();
            Answer::json(&if base == 1 { google(&entries) } else { bing(&entries) })
        }
    };
    let pieces = |options: WebSearchOptions| WebSearchOptions { max_results: 40, per_request: 10, ..options };
    let google = GoogleSearch::open(pieces(options(&at)), "engine").unwrap();
    let bing = BingSearch::open(&pieces(options(&at))).unwrap();
    for (service, name, first, base) in [(google, "num", "start", 1), (bing, "count", "offset", 0)] {
        at.answer_with(piece(name, first, base));
        for (limit, n_found, n_requests) in [(7, 7, 1), (12, 12, 2), (40, 25, 3), (1000, 25, 3)] {
            let pages = service.search("q", limit).await.unwrap();
            assert_eq!((pages.len(), at.take_requests().len()), (n_found, n_requests), "{} {limit}", service.name());
            let last = format!("https://example.org/{n_found}");
            assert_eq!(pages.last().map(|page| page.url.as_str()), Some(last.as_str()));
        }
    }
}

#[tokio::test]
async fn no_more_pages_than_wanted_and_only_pages_of_the_web_come_back() {
    let at = JsonServer::start().await;
    for (service, format) in services(&at) {
        let mut found = entries(4);
        found[0]["url"] = json!("javascript:alert(1)");
        found[1]["url"] = json!("file:///etc/passwd");
        found.push(entry(3));
        found.extend(entries(30));
        at.answer_with(move |_| Answer::json(&format(&found)));
        let pages = service.search("q", 6).await.unwrap();
        assert!(pages.len() <= 6 && !pages.is_empty(), "{}", service.name());
        assert!(pages.iter().all(|page| page.url.starts_with("https://example.org/")), "{pages:?}");
        let mut urls: Vec<&str> = pages.iter().map(|page| page.url.as_str()).collect();
        let n_pages = urls.len();
        urls.sort_unstable();
        urls.dedup();
        assert_eq!(urls.len(), n_pages, "{}: an address comes once", service.name());
        assert!(service.search("q", 1000).await.unwrap().len() <= 20, "{}: max_results holds", service.name());
    }
}

#[tokio::test]
async fn nothing_is_asked_when_nothing_is_wanted_and_long_queries_are_cut() {
    let at = JsonServer::start().await;
    for (service, format) in services(&at) {
        assert_eq!(service.search("q", 0).await.unwrap(), []);
        assert_eq!(service.search(" \n", 5).await.unwrap(), []);
        assert_eq!(at.take_requests(), [], "{}", service.name());
        at.answer(Answer::json(&format(&entries(1))));
        service.search(&"日".repeat(50_000), 5).await.unwrap();
        let request = at.take_requests().remove(0);
        let sent = format!("{:?} {}", request.query, request.body);
        assert_eq!(sent.matches('日').count(), 400, "{}", service.name());
    }
}

#[tokio::test]
async fn refusals_are_sorted_and_show_neither_key_nor_query() {
    let at = JsonServer::start().await;
    let told = json!({"error": {"message": format!("bad key {KEY}")}});
    for (service, _) in services(&at) {
        let mut errors = Vec::new();
        let mut redirect = Answer::status(307, &told);
        redirect = redirect.with_header("location", "http://127.0.0.1:1/elsewhere");
        for answer in [
            Answer::status(401, &told),
            Answer::status(400, &told),
            Answer::status(404, &told),
            Answer::status(429, &told).with_header("retry-after", "3600"),
            redirect,
        ] {
            at.answer(answer);
            errors.push(service.search("private-question", 5).await.unwrap_err());
        }
        assert!(matches!(&errors[0], ModelError::Denied(_)), "{errors:?}");
        assert!(matches!(&errors[1], ModelError::Invalid(text) if text.contains("********")), "{errors:?}");
        assert!(matches!(&errors[2], ModelError::NotFound(text) if text.contains(service.name())), "{errors:?}");
        let waits = matches!(&errors[3], ModelError::RateLimited { retry_after: Some(wait) } if wait.as_secs() == 3600);
        assert!(waits, "{errors:?}");
        assert!(matches!(&errors[4], ModelError::Invalid(text) if text.contains("redirect")), "{errors:?}");
        assert_eq!(at.take_requests().len(), 5, "no redirect is followed, nothing hopeless is repeated");
        let shown = format!("{errors:?} {service:?}");
        assert!(!shown.contains(KEY) && !shown.contains("private-question"), "{shown}");
    }
}

#[tokio::test]
async fn answers_that_are_not_understood_are_errors_that_name_the_service() {
    let at = JsonServer::start().await;
    for (service, format) in services(&at) {
        let whole = format(&entries(3)).to_string();
        for answer in [
            Answer::text(&whole[..whole.len() / 2]),
            Answer::text(whole.clone()).cut_off(),
            Answer::json(&json!({"hello": "world"})),
            Answer::json(&json!([1, 2])),
            Answer::text("<html>not found</html>"),
            Answer::text(format!("{}{whole}", " ".repeat(2 << 20))),
        ] {
            at.answer(answer);
            let error = service.search("q", 3).await.unwrap_err();
            let place = at.url("/search");
            assert!(
                matches!(&error, ModelError::BadAnswer(text) if text.contains(&place)),
                "{}: {error:?}",
                service.name()
            );
        }
    }
}

#[tokio::test]
async fn a_slow_service_is_given_up_and_named() {
    let at = JsonServer::start().await;
    at.answer(Answer::json(&json!({})).after(Duration::from_secs(60)));
    let impatient = WebSearchOptions { http: HttpOptions::within(Duration::from_millis(50)), ..options(&at) };
    let error = BingSearch::open(&impatient).unwrap().search("q", 5).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&at.url("/search")) && text.contains("sent nothing for 0.05 s"), "{error:?}");
    assert!(matches!(error, ModelError::Unavailable(_)));
}

#[tokio::test]
async fn bocha_tells_of_errors_with_a_success() {
    let at = JsonServer::start().await;
    let service = BochaSearch::open(&options(&at)).unwrap();
    at.answer(Answer::json(&json!({"code": 401, "msg": format!("Invalid API KEY {KEY}")})));
    assert!(matches!(service.search("q", 5).await, Err(ModelError::Denied(_))));
    at.answer(Answer::json(&json!({"code": 400, "message": format!("bad {KEY}")})));
    let error = service.search("q", 5).await.unwrap_err();
    assert!(matches!(&error, ModelError::Invalid(text) if text.contains("bad ********")), "{error:?}");
    let flat = json!({"results": [{"title": "T", "content": "C", "summary": "S", "url": "https://a.example"}]});
    at.answer(Answer::json(&flat));
    let page = service.search("q", 5).await.unwrap().remove(0);
    assert_eq!((page.title.as_str(), page.summary.as_str(), page.content.as_str()), ("T", "S", "C"));
}

#[tokio::test]
async fn tavily_may_write_an_answer_of_its_own() {
    let at = JsonServer::start().await;
    let service = TavilySearch::open(TavilyOptions { include_answer: true, ..tavily(&at) }).unwrap();
    let mut answer = tavily_answer(&entries(5));
    answer["answer"] = json!("Paris is in <b>France</b>.");
    at.answer(Answer::json(&answer));
    let pages = service.search("q", 3).await.unwrap();
    assert_eq!((pages.len(), pages[0].url.as_str(), pages[0].content.as_str()), (3, "", "Paris is in France."));
    assert_eq!(at.take_requests()[0].body["include_answer"], true);
}

#[test]
fn options_that_cannot_work_are_refused() {
    let with_key = |key: &str| WebSearchOptions::new(Secret::new(key));
    let at = |endpoint: &str| WebSearchOptions { endpoint: Some(endpoint.to_owned()), ..with_key("k") };
    let refused = [
        GoogleSearch::open(with_key(""), "engine").unwrap_err(),
        GoogleSearch::open(with_key("k"), " ").unwrap_err(),
        BingSearch::open(&at("ftp://example.org/search")).unwrap_err(),
        BochaSearch::open(&at("not an address")).unwrap_err(),
        TavilySearch::open(TavilyOptions::new(with_key(""))).unwrap_err(),
        XinyuSearch::open(&with_key("k")).unwrap_err(),
    ];
    for error in refused {
        assert!(matches!(error, ModelError::Invalid(_)), "{error:?}");
    }
    assert!(TavilySearch::open(TavilyOptions::new(with_key("k"))).is_ok());
}
