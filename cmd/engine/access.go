package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/heddle-io/heddle/engine"
	"github.com/heddle-io/heddle/engine/access"
)

// accessFlags say who may do what.
func accessFlags(fs *flag.FlagSet, c *engine.Config) {
	fs.StringVar(&c.Tokens, "tokens", "", "`file` of tokens, which are then demanded of everybody; \"engine token\" makes its lines")
	fs.Func("allow-anonymous", "`role` of callers without a token: viewer, operator or admin; without tokens and this, only this machine may call", func(word string) (err error) {
		c.Anonymous, err = access.ParseRole(word)
		return err
	})
	fs.BoolVar(&c.ReadOnly, "read-only", false, "refuse every change; jobs that are there go on")
	fs.BoolVar(&c.HidePayloads, "hide-payloads", false, "keep arguments and results of jobs from viewers")
}

const tokenSynopsis = `token NAME ROLE [flags]

Makes a token for the roles
  viewer    sees everything
  operator  also submits and steers jobs, workflows, queues and workers
  admin     also changes the cluster
  worker    runs jobs
and prints it once: only its hash is kept. Programs show it as HEDDLE_TOKEN or
as "Authorization: Bearer TOKEN"; people log in with it on the admin page.`

// token makes a token and its line in a token file.
func (p program) token(args []string) error {
	fs := p.flags("token", tokenSynopsis)
	file := fs.String("file", "", "token `file` to add the line to; it is made if it is not there")
	var words []string
	for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		words, args = append(words, args[0]), args[1:]
	}
	if err := p.parse(fs, args); err != nil {
		return err
	}
	if words = append(words, fs.Args()...); len(words) != 2 {
		fmt.Fprintln(p.err, "engine token: takes a name and a role")
		fs.Usage()
		return errUsage
	}
	role, err := access.ParseRole(words[1])
	if err != nil {
		return fmt.Errorf("role %w", err)
	}
	secret, line, err := engine.NewToken(words[0], role)
	if err != nil {
		return err
	}
	if *file == "" {
		fmt.Fprintf(p.out, "token: %s\nline of the token file: %s\n", secret, line)
		return nil
	}
	if err := addToken(*file, line); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "token: %s\n", secret)
	return nil
}

// addToken puts a line at the end of a token file, if the file is good with it.
func addToken(path, line string) error {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("token file: %w", err)
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		line = "\n" + line
	}
	line += "\n"
	if err := access.CheckTokens(append(text, line...)); err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	_, err = f.WriteString(line)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("token file: %w", err)
	}
	return nil
}
