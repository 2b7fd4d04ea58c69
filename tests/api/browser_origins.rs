//! Pages of other origins in real browsers, Chromium and Firefox: what a listed one can do, and
//! that a foreign one can read nothing. The service is an instance, or nginx with two of them.
//!
//! Browsers take 127.0.0.1 and localhost for secure, so they keep the cookie without TLS there. Two
//! ports are two origins of one site; the two names are two sites.

use serde_json::{Value, json};
use vx11_kit::{Nginx, Port, RedisServer, new_principal, remember_secret, until};

use crate::support::{AnyBrowser, Application, Instance};

const PAGE: &str = include_str!("../../docs/browsers.md");
/// Name of the service on that page.
const SERVICE: &str = "https://events.example.com";
/// Events that the page has printed, without the first frame of a stream and the warnings of the
/// client about a lost connection.
const PRINTED: &str = "lines.filter((line) => line.startsWith('log: ') && !line.includes('connected'))";

/// An example of the page, for the service at `address`: with the client, or with an `EventSource`.
fn example(of_event_source: bool, address: &str) -> String {
    let blocks: Vec<_> =
        PAGE.split("```js\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let [client, event_source] = blocks.as_slice() else { panic!("the page has two examples") };
    assert!(client.contains("connect(") && event_source.contains("new EventSource("));
    let example = if of_event_source { event_source } else { client };
    example.replace(SERVICE, &format!("http://{address}"))
}

/// Everything that a page without permission can try, with a valid token and, if the browser has
/// it, the cookie. Gives what it could read.
const TRY_EVERYTHING: &str = r#"
    const [service, token] = args;
    const events = `${service}/operator/api/events`;
    const headers = { Authorization: `Bearer ${token}` };
    const read = [];
    const attempt = async (what, promise) => {
        try {
            const answer = await promise;
            if (answer.type !== "opaque") read.push(`${what}: ${answer.status}`);
        } catch (error) {
            if (error.name !== "TypeError") read.push(`${what}: ${error}`);
        }
    };
    for (const credentials of ["omit", "include"]) {
        await attempt("issue", fetch(`${events}/sse-token`, { method: "POST", headers, credentials }));
        await attempt("set the cookie", fetch(`${events}/cookie`, { method: "POST", headers, credentials }));
        await attempt("publish", fetch(events, { method: "POST", body: "{}", credentials }));
        await attempt("stream", fetch(`${events}/stream`, { headers, credentials }));
        await attempt("stream by its address", fetch(`${events}/stream?token=${token}`, { credentials }));
        await attempt("refused stream", fetch(`${events}/stream?token=x`, { credentials }));
        await attempt("stream without reading", fetch(`${events}/stream?token=x`, { credentials, mode: "no-cors" }));
        await attempt("health", fetch(`${service}/operator/api/health`, { credentials }));
    }
    await attempt("client", new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.onload = () => resolve({ status: "loaded" });
        script.onerror = () => reject(new TypeError("not loaded"));
        script.type = "module";
        script.src = `${service}/client/vx11-events.js`;
        document.head.append(script);
    }));
    for (const [address, withCredentials] of [[`/stream?token=${token}`, false], ["/stream", true]]) {
        const source = new EventSource(`${events}${address}`, { withCredentials });
        source.onmessage = ({ data }) => read.push(data);
        source.onopen = () => read.push("an open stream");
        await new Promise((resolve) => { source.onerror = resolve; });
        if (source.readyState !== EventSource.CLOSED) read.push("a stream that comes back");
    }
    return read;"#;

/// A service at one address, with its instances and the log that they share.
struct Service {
    redis: RedisServer,
    principal: String,
    environment: Vec<(String, String)>,
    ports: Vec<Port>,
    instances: Vec<Option<Instance>>,
    nginx: Option<Nginx>,
}

impl Service {
    /// A place for one instance, or for two behind nginx. Nothing runs yet.
    async fn place(behind_nginx: bool) -> Self {
        let ports: Vec<_> = (0..=usize::from(behind_nginx)).map(|_| Port::reserve()).collect();
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{}", port.number())).collect();
        let nginx = if behind_nginx { Some(Nginx::start(&addresses).await) } else { None };
        let (redis, principal) = (RedisServer::start().await, new_principal());
        Self { redis, principal, environment: Vec::new(), ports, instances: Vec::new(), nginx }
    }

    /// Starts the instances, with the variables `environment`.
    async fn start(&mut self, environment: &[(&str, &str)]) {
        let set = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = environment.iter().map(set).collect();
        for at in 0..self.ports.len() {
            let instance = self.run(at).await;
            self.instances.push(Some(instance));
        }
    }

    async fn run(&self, at: usize) -> Instance {
        let (redis, id) = (self.redis.url(), (at + 1).to_string());
        let listen = format!("127.0.0.1:{}", self.ports[at].number());
        let mut environment = vec![
            ("VX11_OPERATOR_LISTEN", listen.as_str()),
            ("VX11_PRINCIPAL_TOKEN", &self.principal),
            ("REDIS_URL", &redis),
            ("INSTANCE_ID", &id),
        ];
        environment.extend(self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Instance::with(&environment).await
    }

    /// `127.0.0.1:port`, of nginx if there is one.
    fn address(&self) -> String {
        let of_instance = || format!("127.0.0.1:{}", self.ports[0].number());
        let of_nginx = |nginx: &Nginx| nginx.balancer().trim_start_matches("http://").to_owned();
        self.nginx.as_ref().map_or_else(of_instance, of_nginx)
    }

    fn living(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().flatten()
    }

    async fn publish(&self, data: &str) {
        self.living().next().unwrap().publish(json!(data)).await;
    }

    async fn open_streams(&self) -> u64 {
        let mut streams = 0;
        for instance in self.living() {
            streams += instance.metric("vx11_operator_sse_streams_open").await;
        }
        streams
    }

    /// Waits until the page has its stream.
    async fn has_stream(&self) {
        until("the page to have a stream", async || self.open_streams().await == 1).await;
    }

    /// Kills the instance with the stream. An only one starts again.
    async fn lose_stream(&mut self) {
        for at in 0..self.instances.len() {
            let instance = self.instances[at].as_ref().unwrap();
            if instance.metric("vx11_operator_sse_streams_open").await == 1 {
                self.instances[at].take().unwrap().kill().await;
                if self.nginx.is_none() {
                    self.instances[at] = Some(self.run(at).await);
                }
                return;
            }
        }
        panic!("no instance has a stream");
    }
}

/// A listed page receives events and goes on after its instance was killed, without missing one.
async fn receives(browser: AnyBrowser, behind_nginx: bool, of_event_source: bool) {
    let mut service = Service::place(behind_nginx).await;
    let script = example(of_event_source, &service.address());
    let page = Application::start_for(&service.address(), &service.principal, &script).await;
    service.start(&[("VX11_OPERATOR__HTTP__CORS_ORIGINS", &page.base)]).await;
    browser.open(&format!("{}/", page.base)).await;
    service.has_stream().await;
    service.publish("one").await;
    browser.value_becomes(PRINTED, &json!([r#"log: "one""#])).await;
    service.lose_stream().await;
    service.publish("two").await;
    // A reset would load the page again, which empties the list.
    browser.value_becomes(PRINTED, &json!([r#"log: "one""#, r#"log: "two""#])).await;
    let cookies = browser.run("return document.cookie;", vec![]).await;
    assert_eq!(cookies, json!(""), "no script reads the cookie");
}

#[tokio::test]
async fn a_listed_page_receives_with_the_client_and_resumes() {
    receives(AnyBrowser::chromium().await, false, false).await;
    receives(AnyBrowser::firefox().await, false, false).await;
}

#[tokio::test]
async fn a_listed_page_receives_with_an_event_source_without_a_token_in_its_address_and_resumes() {
    receives(AnyBrowser::chromium().await, false, true).await;
    receives(AnyBrowser::firefox().await, false, true).await;
}

#[tokio::test]
async fn behind_nginx_a_listed_page_receives_with_the_client_and_resumes_on_another_instance() {
    receives(AnyBrowser::chromium().await, true, false).await;
    receives(AnyBrowser::firefox().await, true, false).await;
}

#[tokio::test]
async fn behind_nginx_a_listed_page_receives_with_an_event_source_and_resumes_on_another_instance() {
    receives(AnyBrowser::chromium().await, true, true).await;
    receives(AnyBrowser::firefox().await, true, true).await;
}

/// Sets the cookie as the page does. Gives the status.
const SET_COOKIE: &str = r#"
    const [service] = args;
    const { sse_token } = await (await fetch("/sse-token", { method: "POST" })).json();
    const headers = { Authorization: `Bearer ${sse_token}` };
    const cookie = `${service}/operator/api/events/cookie`;
    return (await fetch(cookie, { method: "POST", headers, credentials: "include" })).status;"#;

/// The state of an `EventSource` without a token in its address, once it has opened or failed.
const STATE: &str = r"
    const [service] = args;
    const source = new EventSource(`${service}/operator/api/events/stream`, { withCredentials: true });
    await new Promise((resolve) => { source.onopen = resolve; source.onerror = resolve; });
    const state = source.readyState;
    source.close();
    return state;";

/// A foreign page reads nothing, whatever it knows and the browser keeps.
async fn reads_nothing(browser: AnyBrowser, behind_nginx: bool) {
    let mut service = Service::place(behind_nginx).await;
    let listed = Application::start_for(&service.address(), &service.principal, "").await;
    let foreign = Application::start_for(&service.address(), &service.principal, "").await;
    service.start(&[("VX11_OPERATOR__HTTP__CORS_ORIGINS", &listed.base)]).await;
    let at = json!(format!("http://{}", service.address()));
    browser.open(&format!("{}/", listed.base)).await;
    assert_eq!(browser.run(SET_COOKIE, vec![at.clone()]).await, json!(204));
    assert_eq!(browser.run(STATE, vec![at.clone()]).await, json!(1), "the cookie opens a stream");
    let token = service.living().next().unwrap().issue().await.token;
    browser.open(&format!("{}/", foreign.base)).await;
    let read = browser.run(TRY_EVERYTHING, vec![at.clone(), json!(token)]).await;
    assert_eq!(read, json!([]));
    // On a listed page the same attempts succeed, so the check above would notice a success.
    browser.open(&format!("{}/", listed.base)).await;
    let attempts = TRY_EVERYTHING.split("for (const [address").next().unwrap();
    let read = browser.run(&format!("{attempts} return read;"), vec![at, json!(token)]).await;
    let read = read.to_string();
    for text in ["issue: 401", "set the cookie: 204", "stream: 200", "refused stream: 403", "client: loaded"]
    {
        assert!(read.contains(text), "{text} in {read}");
    }
    assert!(!read.contains("health"), "{read}");
}

#[tokio::test]
async fn a_foreign_page_can_read_nothing() {
    reads_nothing(AnyBrowser::chromium().await, false).await;
    reads_nothing(AnyBrowser::firefox().await, false).await;
}

#[tokio::test]
async fn behind_nginx_a_foreign_page_can_read_nothing() {
    reads_nothing(AnyBrowser::chromium().await, true).await;
    reads_nothing(AnyBrowser::firefox().await, true).await;
}

/// The state of an `EventSource` with the cookie on a page of another site.
async fn on_another_site(browser: &AnyBrowser, same_site: &str) -> Value {
    let mut service = Service::place(false).await;
    let page = Application::start_for(&service.address(), &service.principal, "").await;
    let site = page.base.replace("127.0.0.1", "localhost");
    let environment = [
        ("VX11_OPERATOR__HTTP__CORS_ORIGINS", site.as_str()),
        ("VX11_OPERATOR__HTTP__COOKIE_SAME_SITE", same_site),
    ];
    service.start(&environment).await;
    browser.open(&format!("{site}/")).await;
    let at = json!(format!("http://{}", service.address()));
    assert_eq!(browser.run(SET_COOKIE, vec![at.clone()]).await, json!(204));
    browser.run(STATE, vec![at]).await
}

#[tokio::test]
async fn a_page_of_another_site_needs_the_cookie_for_other_sites() {
    let (open, closed) = (json!(1), json!(2));
    for browser in [AnyBrowser::chromium().await, AnyBrowser::firefox().await] {
        assert_eq!(on_another_site(&browser, "strict").await, closed, "the browser does not send it");
        assert_eq!(on_another_site(&browser, "none").await, open);
    }
}

#[tokio::test]
async fn a_listed_page_can_read_why_and_when_to_come_back() {
    let instance_port = Port::reserve();
    let (address, principal) = (format!("127.0.0.1:{}", instance_port.number()), new_principal());
    let page = Application::start_for(&address, &principal, "").await;
    let instance = Instance::with(&[
        ("VX11_OPERATOR_LISTEN", &address),
        ("VX11_PRINCIPAL_TOKEN", &principal),
        ("VX11_OPERATOR__HTTP__CORS_ORIGINS", &page.base),
        ("VX11_OPERATOR__STREAMS__MAX", "1"),
    ])
    .await;
    let _only_stream = instance.open_stream(&instance.issue().await.token).await;
    let token = instance.issue().await.token;
    remember_secret(&token);
    let body = r#"
        const [service, token] = args;
        const answer = await fetch(`${service}/operator/api/events/stream`, { headers: { "X-VX11-Token": token } });
        return [answer.status, (await answer.json()).code, answer.headers.get("Retry-After")];"#;
    for browser in [AnyBrowser::chromium().await, AnyBrowser::firefox().await] {
        browser.open(&format!("{}/", page.base)).await;
        let read = browser.run(body, vec![json!(instance.base), json!(token)]).await;
        assert_eq!(read, json!([503, "streams_full", "1"]));
    }
}
