//! Foundation of these tests: instances, browsers and other clients.

mod application;
mod browser;
mod client;
mod configure;
mod driver;
mod firefox;
mod front;
mod grants;
mod instance;
mod issuer;
mod limited;
mod pages;
mod panel;
mod problem;
mod python;
mod raw;

pub use application::{Application, Backend};
pub use browser::Browser;
pub use client::{Ended, Terminal};
pub use configure::{complaint, complaint_about_file, file, planted, run};
pub use front::Front;
pub use grants::{
    Limited, TextStream, ask_for_token, field, issue_with, publish_to, stream, token_for, with_principals,
};
pub use instance::{Instance, random_hex};
pub use issuer::{Issuer, now as issuer_now};
pub use limited::limited;
pub use pages::AnyBrowser;
pub use panel::Panel;
pub use problem::{problem, raw_problem};
pub use python::{python_environment, run_to_end};
pub use raw::{exchange, raw_request};
