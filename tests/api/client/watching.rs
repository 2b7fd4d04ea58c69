//! `stats --watch`: picture after picture, and a terminal that is afterwards as it was.

use tokio::io::{AsyncReadExt, BufReader};
use vx11_kit::Port;

use crate::support::{Instance, Terminal, random_hex};

/// To xterm's alternate screen, its cursor hidden and at the upper left; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[H";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

#[tokio::test]
async fn pictures_follow_one_another_with_what_has_changed_and_ctrl_c_ends_them() {
    let instance = Instance::start().await;
    let mut watch = Terminal::of(&instance).start(&["stats", "--watch", "1"]);
    assert_eq!(watch.line().await, "backend memory   tokens 0 (+0)   streams 0 (+0)");
    assert_eq!(watch.line().await, "INSTANCE  BACKEND  BREAKER  TOKENS      STREAMS      SEEN");
    assert_eq!(watch.line().await, "1         memory   -             0  +0        0  +0  now");
    instance.issue().await;
    // Not the next for certain: it may have been on its way.
    while watch.line().await != "1         memory   -             1  +1        0  +0  now" {}
    assert_eq!(watch.line().await, "", "between two pictures");
    assert_eq!(watch.line().await, "backend memory   tokens 1 (+0)   streams 0 (+0)");
    watch.interrupt();
    let ended = watch.ended().await;
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
    assert!(!ended.output.contains('\u{1b}'), "{}", ended.output);
}

#[tokio::test]
async fn while_the_service_is_away_the_last_picture_stays_with_its_age() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let principal = random_hex();
    let before = Instance::in_place_of(&address, &principal).await;
    before.issue().await;
    let mut watch = Terminal::of(&before).start(&["stats", "--watch", "1"]);
    let row = "1         memory   -             1  +0        0  +0  now";
    while watch.line().await != row {}
    before.kill().await;
    loop {
        let line = watch.line().await;
        if line.starts_with("no answer for ") {
            assert!(
                line.contains(" s, as old is this picture: cannot connect: Connection refused"),
                "{line}"
            );
            break;
        }
    }
    assert_eq!(watch.line().await, "backend memory   tokens 1 (+0)   streams 0 (+0)");
    watch.line().await;
    assert_eq!(watch.line().await, row);
    let _after = Instance::in_place_of(&address, &principal).await;
    while watch.line().await != "1         memory   -             0  -1        0  +0  now" {}
}

#[tokio::test]
async fn it_waits_for_a_service_that_is_not_there_yet() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let principal = random_hex();
    let terminal = Terminal::bare()
        .with("VX11_OPERATOR_URL", &format!("http://{address}"))
        .with("VX11_PRINCIPAL_TOKEN", &principal);
    let mut watch = terminal.start(&["stats", "--watch", "1"]);
    assert_eq!(watch.line().await, "no answer yet: cannot connect: Connection refused (os error 111)");
    let _instance = Instance::in_place_of(&address, &principal).await;
    while watch.line().await != "backend memory   tokens 0 (+0)   streams 0 (+0)" {}
}

#[tokio::test]
async fn on_a_terminal_pictures_are_drawn_over_one_another_and_ctrl_c_gives_it_back() {
    let instance = Instance::start().await;
    let terminal = Terminal::of(&instance).with("TERM", "xterm").with("NO_COLOR", "1");
    let mut watch = terminal.start_on_a_terminal(&["stats", "--watch", "1"]);
    let first = "backend memory   tokens 0 (+0)   streams 0 (+0)\u{1b}[K";
    assert_eq!(watch.line().await, format!("{ENTER}{first}"));
    watch.line().await;
    assert_eq!(watch.line().await, "1         memory   -             0  +0        0  +0  now\u{1b}[K");
    assert_eq!(watch.line().await, format!("\u{1b}[J\u{1b}[H{first}"), "the next begins where the first did");
    watch.press_ctrl_c().await;
    let ended = watch.ended().await;
    assert_eq!(ended.code, 0);
    assert!(ended.output.ends_with(&format!("{LEAVE}\n")), "{:?}", ended.output);
}

#[tokio::test]
async fn the_terminal_is_restored_before_an_error_is_printed() {
    let port = Port::reserve();
    let address = format!("127.0.0.1:{}", port.number());
    let before = Instance::in_place_of(&address, &random_hex()).await;
    let terminal = Terminal::of(&before).with("TERM", "xterm");
    let mut watch = terminal.start_on_a_terminal(&["stats", "--watch", "1"]);
    assert!(watch.line().await.starts_with(ENTER));
    before.kill().await;
    // Another principal's, as after a credential was replaced.
    let _after = Instance::in_place_of(&address, &random_hex()).await;
    let ended = watch.ended().await;
    assert_eq!(ended.code, 2);
    let (_, shown) = ended.output.rsplit_once(LEAVE).expect("the terminal is given back");
    assert!(shown.starts_with("vx11-operator: ") && shown.contains("401 credential_wrong"), "{shown:?}");
}

#[tokio::test]
async fn it_ends_quietly_when_nobody_reads() {
    let instance = Instance::start().await;
    let (watch, output) = Terminal::of(&instance).start_unread(&["stats", "--watch", "3600"]);
    BufReader::new(output).read_u8().await.unwrap();
    let ended = watch.ended().await;
    assert_eq!((ended.code, ended.errors.as_str()), (0, ""));
}
