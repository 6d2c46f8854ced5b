//! The fleet page in a real browser over a hub of 15,000 droplets: what it shows, how soon, in light and dark.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on, or meets anything else, fails"
)]

use std::path::PathBuf;

use genesis_hub::history::Sample;
use genesis_shared::report::Heartbeat;
use genesis_tests::browser::Browser;
use genesis_tests::crowd::{Crowd, Member};
use genesis_tests::operator::now;
use serde_json::{Value, json};

const DROPLETS: usize = 15_000;
const HOURS_MS: i64 = 3 * 3_600_000;

/// A health report; `n` gives each its own numbers.
fn beat(member: &Member, state: &str, n: usize) -> Value {
    json!({
        "workspace_id": member.workspace, "droplet_id": member.id, "timestamp": now(), "state": state,
        "n8n_status": "running", "n8n_version": "2.8.4", "active_workflows": 7, "cpu_usage_percent": 4 + n % 30,
        "memory_usage_mb": 480 + n % 90, "memory_total_mb": 961, "disk_usage_percent": 38.5, "swap_used_mb": 12,
        "uptime_seconds": 1_200_000 + n, "agent_version": "0.1.0", "boot_epoch": "b1", "journal_high_water": 0,
        "outbox_depth": 0, "desired_generation": 4, "drift_count": 0
    })
}

fn number(member: &Member) -> usize {
    member.id.as_str().parse().unwrap()
}

/// A fleet in which most is well and something of everything is not.
async fn fleet() -> Crowd {
    let mut crowd = Crowd::at(now().plus_millis(-HOURS_MS)).await;
    let region = |n: usize| ["ams3", "blr1", "fra1", "lon1", "nyc3", "sgp1"][n * 7 % 40 % 6];
    let droplet = |n: usize| {
        json!({"droplet_id": (410_000 + n).to_string(), "region": region(n), "name": format!("tenant {n}"),
        "labels": {"ring": if n.is_multiple_of(100) { "canary" } else { "main" }}})
    };
    crowd.enrol((0..DROPLETS).map(droplet).collect()).await;
    // One rack in each of two regions went silent ten minutes ago; here and there one did.
    let is_silent = |m: &&Member| matches!(number(m) % 5000, 2100..=2140) || number(m).is_multiple_of(977);
    let everybody = crowd.droplets.clone();
    let (silent, heard): (Vec<_>, Vec<_>) = everybody.iter().cloned().partition(|member| is_silent(&member));
    crowd.clock.advance(HOURS_MS - 600_000);
    crowd.beat(&silent, |member| beat(member, "ACTIVE_HEALTHY", number(member))).await;
    crowd.clock.advance(590_000);
    live(&crowd, &everybody[4_242]);
    let state = |n: usize| match n {
        n if n % 89 == 0 => "ACTIVE_DEGRADED",
        n if n % 1201 == 0 => "DRIFT_DETECTED",
        n if n % 3571 == 0 => "QUARANTINED",
        _ => "ACTIVE_HEALTHY",
    };
    let new = |member: &Member| number(member).is_multiple_of(1999);
    let beating: Vec<_> = heard.into_iter().filter(|member| !new(member)).collect();
    crowd.beat(&beating, |member| beat(member, state(number(member)), number(member))).await;
    crowd
}

/// What waits and what happened; the droplet with a history.
async fn work(crowd: &Crowd) -> Member {
    let one = crowd.droplets[4_242].clone();
    let deploy = json!([{"action": "RESTART_N8N"}]);
    for (action, ms, state) in [
        ("HEALTH_CHECK", 240, "succeeded"),
        ("COLLECT_METRICS", 900, "succeeded"),
        ("VERIFY", 3_100, "failed"),
        ("VERIFY", 1_450, "succeeded"),
    ] {
        crowd.push(json!({"workspaces": [one.workspace]}), "health", json!([{"action": action}])).await;
        let job = crowd.poll(&one).await[0]["job_id"].clone();
        crowd.clock.advance(350);
        crowd.deliver(&one, seq(), vec![json!({"accepted": {"job_id": job}})]).await;
        crowd.clock.advance(ms);
        let step =
            |name: &str, ms: i64, attempts: u32| json!({"name": name, "state": "done", "ms": ms, "attempts": attempts});
        let steps =
            json!([step("ask_n8n", ms / 8, 1), step("list_workflows", ms / 2, 2), step("compare email-1", ms / 4, 1)]);
        let (code, message) = if state == "failed" {
            ("n8n_unavailable", "n8n did not answer within 2 s; the next round tries again")
        } else {
            ("ok", "done")
        };
        let result = json!({"job_id": job, "bundle_id": null, "state": state, "code": code, "message": message,
            "retryable": true, "started_at": crowd.clock.now(), "finished_at": crowd.clock.now(), "steps": steps, "output": []});
        crowd.deliver(&one, seq(), vec![json!({ "result": result })]).await;
    }
    assert_eq!(crowd.push(json!({"all": true}), "template", deploy.clone()).await, DROPLETS);
    crowd.push(json!({"labels": {"ring": "canary"}}), "security", deploy.clone()).await;
    for (at, member) in crowd.droplets.iter().step_by(11).take(420).enumerate() {
        let jobs = crowd.poll(member).await;
        if at % 3 != 0 {
            let accepted = jobs.iter().map(|job| json!({"accepted": {"job_id": job["job_id"]}}));
            crowd.deliver(member, 1, accepted.collect()).await;
        }
    }
    for (at, (code, message)) in EVENTS.iter().cycle().take(40).enumerate() {
        crowd.clock.advance(170);
        let member = &crowd.droplets[5_000 + at * 211];
        crowd.deliver(member, 1, vec![json!({"event": {"code": code, "message": message}})]).await;
    }
    crowd.deliver(&one, seq(), vec![json!({"event": {"code": EVENTS[0].0, "message": EVENTS[0].1}})]).await;
    one
}

const EVENTS: [(&str, &str); 5] = [
    ("drift_too_much", "9 of 21 managed things differ at once; nothing was repaired: deploy again what is to stay"),
    ("n8n_restarted", "n8n ended for want of memory and was started again"),
    ("certificate_renewed", "t1.example.com is good until 2027-02-20"),
    ("disk_relieved", "disk at 96 %: images that nothing uses and old logs were removed, now 71 %"),
    ("bootstrap_done", "n8n has an owner and a key; the answer took 4 s"),
];

/// Record numbers of the one droplet that tells much.
fn seq() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// Three hours of samples: a working day's curve, a gap, and a spell of illness.
fn live(crowd: &Crowd, member: &Member) {
    let end = crowd.clock.now().plus_millis(-10_000);
    for minute in (0_i32..180).filter(|minute| !(70..82).contains(minute)) {
        let wave = f64::from(minute) / 14.0;
        let spell = if (120..141).contains(&minute) { 55.0 } else { 0.0 };
        let mut report = beat(member, if spell > 0.0 { "ACTIVE_DEGRADED" } else { "ACTIVE_HEALTHY" }, 0);
        report["cpu_usage_percent"] = json!(18.0 + 9.0 * wave.sin() + f64::from(minute * 37 % 9) + spell);
        report["memory_usage_mb"] = json!(520 + minute * 37 % 23 + minute / 2 + if spell > 0.0 { 180 } else { 0 });
        report["disk_usage_percent"] = json!(38.0 + f64::from(minute) / 30.0);
        let report: Heartbeat = serde_json::from_value(report).unwrap();
        let at = end.plus_millis(-i64::from(180 - minute) * 60_000);
        crowd.running.hub.history.note(&member.id, Sample::of(&report, at));
    }
}

fn shots() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[allow(clippy::print_stderr, reason = "figures that the test prints")]
fn print(figures: &Value) {
    eprintln!("{figures}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_headless_browser_the_page_shows_fifteen_thousand_droplets_and_what_happens_to_them() {
    let crowd = fleet().await;
    let one = work(&crowd).await;
    let url = format!("https://{}/", crowd.running.addr);
    let late = crowd.droplets[9_000].clone();
    let mut browser = tokio::task::block_in_place(|| {
        let mut browser = Browser::start(crowd.folder());
        signs_in(&mut browser, &url, &crowd.admin);
        shows_the_fleet(&mut browser);
        browser
    });
    let news = json!({"event": {"code": "it_is_live", "message": "an event that came while somebody looked"}});
    crowd.deliver(&late, 1, vec![news]).await;
    tokio::task::block_in_place(|| {
        browser.until("document.documentElement.dataset.latest === 'it_is_live'");
        browser.until("document.querySelector('.events li').textContent.includes('while somebody looked')");
        for (name, width, height, dark) in
            [("fleet-light", 1440, 1000, false), ("fleet-dark", 1440, 1000, true), ("fleet-small", 390, 844, false)]
        {
            browser.look(width, height, dark);
            browser.until("document.querySelectorAll('.region canvas').length === 6");
            assert!(browser.screenshot(shots().join(format!("{name}.png"))).len() > 20_000);
        }
        shows_one_droplet(&mut browser, &one);
        survives_what_is_not_there(&mut browser);
        assert_eq!(browser.complaints(), Vec::<String>::new(), "the browser has nothing to complain of");
        drop(browser);
    });
    crowd.running.stop();
    crowd.running.wait().await.unwrap();
}

fn signs_in(browser: &mut Browser, url: &str, token: &str) {
    browser.look(1440, 1000, false);
    browser.open(url);
    browser.until("document.documentElement.dataset.view === 'door'");
    browser.screenshot(shots().join("door-light.png"));
    let give = |token: &str| {
        format!(
            "document.getElementById('token').value = {token:?}; document.querySelector('.door form').requestSubmit()"
        )
    };
    browser.eval(&give("wrong"));
    browser.until("document.querySelector('.wrong')?.textContent.includes('bearer token')");
    // The refused request is the browser's to complain of, and nothing else is.
    assert!(browser.complaints().iter().all(|complaint| complaint.contains("401")));
    browser.eval(&give(token));
    browser.until("document.documentElement.dataset.ready === 'fleet'");
    // As whoever has signed in meets it: from the address to what it shows.
    browser.eval("window.isBefore = true");
    browser.call("Page.reload", json!({}));
    browser.until("!window.isBefore && document.documentElement.dataset.ready === 'fleet' && document.documentElement.dataset.contentMs");
}

fn shows_the_fleet(browser: &mut Browser) {
    browser.until("document.querySelector('h1').textContent === '15,000 droplets'");
    browser.until("document.querySelectorAll('.look a').length > 10");
    let tile = |browser: &mut Browser, state: &str| {
        browser.eval(&format!("document.querySelector('.tile[data-state={state}] b').textContent"))
    };
    for (state, wanted) in [("ACTIVE_DEGRADED", 160..175), ("ZOMBIE", 130..145), ("DRIFT_DETECTED", 10..14)] {
        let count: usize = tile(browser, state).as_str().unwrap().replace(',', "").parse().unwrap();
        assert!(wanted.contains(&count), "{state}: {count}");
    }
    // The map is painted, each droplet is on it, and each state has its colour.
    let painted = "[...document.querySelectorAll('.region canvas')].map((canvas) => {
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const colours = new Map();
        for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255) {
            const key = data.slice(at, at + 3).join(); colours.set(key, (colours.get(key) ?? 0) + 1);
        }
        return [...colours.values()].filter((pixels) => pixels > 8).length;
    })";
    let painted = browser.eval(painted);
    assert_eq!(painted.as_array().unwrap().len(), 6);
    assert!(painted.as_array().unwrap().iter().all(|colours| colours.as_u64().unwrap() >= 2), "{painted}");
    let queues = browser.eval("[...document.querySelectorAll('.queue')].map((queue) => queue.textContent)");
    assert!(queues.to_string().contains("template15,000"), "{queues}");
    assert!(browser.eval("document.querySelectorAll('.events li').length").as_u64().unwrap() >= 40);
    // What it costs: the fleet is one small request, the names another, once.
    let sizes = browser.eval(
        "Object.fromEntries(performance.getEntriesByType('resource')
        .map((entry) => [new URL(entry.name).pathname, entry.encodedBodySize]))",
    );
    assert!(sizes["/api/v1/fleet/map"].as_u64().unwrap() < 16 * 1024, "{sizes}");
    let first = browser.eval("Number(document.documentElement.dataset.contentMs)");
    print(&json!({"droplets": DROPLETS, "time_to_content_ms": first, "map_bytes": sizes["/api/v1/fleet/map"],
        "ids_bytes": sizes["/api/v1/fleet/ids"]}));
    // A state can be picked out.
    browser.eval("document.querySelector('.tile[data-state=ZOMBIE]').click()");
    browser.until("document.querySelector('.look').textContent.startsWith('Silent') && document.querySelectorAll('.look a').length === 54");
    browser.screenshot(shots().join("fleet-picked.png"));
    browser.eval("document.querySelector('.tile[data-state=ZOMBIE]').click()");
}

fn shows_one_droplet(browser: &mut Browser, one: &Member) {
    browser.eval(&format!(
        "document.querySelector('#find input').value = '{}'; document.querySelector('#find').requestSubmit()",
        one.id
    ));
    browser.until("document.documentElement.dataset.ready === 'droplet'");
    browser.until("document.querySelectorAll('.chart svg .line').length === 3");
    // A gap in the samples is a gap in each curve.
    assert_eq!(browser.eval("document.querySelector('.chart .line').getAttribute('d').split('M').length - 1"), 2);
    browser.until("document.querySelectorAll('.timeline > li').length >= 5");
    let told = browser.eval("document.querySelector('.timeline').textContent");
    for word in
        ["Collect metrics", "failed, undone", "n8n_unavailable", "waits for the droplet", "waited 350 ms", "ran 3.1 s"]
    {
        assert!(told.as_str().unwrap().contains(word), "{word}: {told}");
    }
    browser.eval("document.querySelectorAll('.timeline details')[1].open = true");
    for (name, width, height, dark) in
        [("droplet-light", 1440, 1000, false), ("droplet-dark", 1440, 1000, true), ("droplet-small", 390, 844, true)]
    {
        browser.look(width, height, dark);
        browser.screenshot(shots().join(format!("{name}.png")));
    }
}

fn survives_what_is_not_there(browser: &mut Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
    browser.look(1440, 1000, false);
    browser.eval("location.hash = '#/droplet/%3Cimg%20src=x%20onerror=alert(1)%3E'");
    browser.until("document.querySelector('main').textContent.includes('droplet id')");
    browser.eval("location.hash = '#/droplet/nobody'");
    browser.until("document.querySelector('h1')?.textContent === 'No such droplet'");
    assert!(browser.complaints().iter().all(|complaint| complaint.contains("400") || complaint.contains("404")));
    browser.eval("document.getElementById('leave').click()");
    browser.until("document.documentElement.dataset.view === 'door'");
    assert_eq!(browser.eval("sessionStorage.length"), 0);
}
