//! Tests of the hub through its router, against a real store in a temporary folder and a clock that stands still.

mod access;
mod api;
mod audit;
mod enrolment;
mod excluded;
mod first_boot;
mod identity;
mod input;
mod jobs;
mod keeping;
mod pacing;
mod push;
mod restart;
mod results;
mod serving;
mod storing;
mod stream;
mod watching;
mod world;
