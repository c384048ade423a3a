// Package pagetest holds the tests of the admin page: a real browser on a real
// engine with a real Postgres. They look for Chromium on the machine; without
// one they are skipped, unless HEDDLE_BROWSER=required, as CI sets it.
//
// The tests write a picture of each page, light and dark, for a person to look
// at, into the folder that HEDDLE_SCREENSHOTS names, else into
// heddle-screenshots below the system's temporary folder.
package pagetest
