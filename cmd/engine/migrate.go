package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/heddle-io/heddle/schema"
)

const migrateSynopsis = `migrate up|down|status --postgres URL [flags]

  up      applies what is missing
  down    takes the newest step back (--steps n: n of them); taking the first
          one back removes all tables with their data
  status  lists the steps`

// migrate changes or shows the version of the tables.
func (p program) migrate(ctx context.Context, args []string) error {
	fs := p.flags("migrate", migrateSynopsis)
	dsn := fs.String("postgres", "", "`URL` of the database")
	name := fs.String("schema", schema.Default, "Postgres schema of the tables")
	steps := fs.Int("steps", 1, "steps that down takes back")
	action := ""
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		action, args = args[0], args[1:]
	}
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if action == "" && fs.NArg() == 1 {
		action = fs.Arg(0)
	} else if err := p.noArguments(fs); err != nil {
		return err
	}
	if action != "up" && action != "down" && action != "status" {
		fmt.Fprintf(p.err, "engine migrate: %q is none of up, down, status\n", action)
		fs.Usage()
		return errUsage
	}
	if *dsn == "" {
		return fmt.Errorf("--postgres (or %s) is required", variable("postgres"))
	}
	switch action {
	case "up":
		done, err := schema.Up(ctx, *dsn, *name)
		return p.migrated("applied", done, err)
	case "down":
		if *steps < 1 {
			return errors.New("--steps must be at least 1")
		}
		done, err := schema.Down(ctx, *dsn, *name, *steps)
		return p.migrated("taken back", done, err)
	}
	states, err := schema.Status(ctx, *dsn, *name)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tNAME\tAPPLIED")
	for _, s := range states {
		at := "no"
		if !s.AppliedAt.IsZero() {
			at = s.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", s.Version, s.Name, at)
	}
	return w.Flush()
}

func (p program) migrated(what string, done []schema.Migration, err error) error {
	if err != nil {
		return err
	}
	for _, m := range done {
		fmt.Fprintf(p.out, "%s: %d %s\n", what, m.Version, m.Name)
	}
	if len(done) == 0 {
		fmt.Fprintln(p.out, "nothing to do")
	}
	return nil
}
