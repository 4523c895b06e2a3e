"""One policy update as pure functions, and the reference path; nothing here knows a variant or a host by name."""
