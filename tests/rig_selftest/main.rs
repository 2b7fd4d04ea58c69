//! The checker of the drills proves itself: it finds each kind of violation in a history that has
//! one, and none in a history that has none.

mod control;
mod events;
mod grants;
mod results;
mod violations;
