package main

import (
	"bufio"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"strings"
)

//go:embed recipients.csv
var bundled string

// recipient is one line of the file.
type recipient struct{ Address, Name string }

// recipients reads a CSV file (RFC 4180) with the header email,name; "" is the
// bundled one. Blank lines are passed over, and so is an address that stood
// there before: nobody wants the mail twice.
func recipients(path string) (list []recipient, repeated int, err error) {
	if path == "" {
		return parseRecipients(strings.NewReader(bundled))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	list, repeated, err = parseRecipients(f)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return list, repeated, err
}

func parseRecipients(r io.Reader) (list []recipient, repeated int, err error) {
	text := bufio.NewReader(r)
	if mark, _ := text.Peek(3); string(mark) == "\uFEFF" {
		text.Discard(3)
	}
	in := csv.NewReader(text)
	in.FieldsPerRecord = -1
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, 0, errors.New("the file is empty; it needs the header email,name")
	}
	if err != nil {
		return nil, 0, err
	}
	if len(header) != 2 || strings.TrimSpace(header[0]) != "email" || strings.TrimSpace(header[1]) != "name" {
		return nil, 0, fmt.Errorf("line 1: the header is %q, not email,name", strings.Join(header, ","))
	}
	seen := map[string]bool{}
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			if len(list) == 0 {
				return nil, 0, errors.New("no recipients")
			}
			return list, repeated, nil
		}
		if err != nil {
			return nil, 0, err
		}
		line, _ := in.FieldPos(0)
		if len(row) == 1 && strings.TrimSpace(row[0]) == "" {
			continue
		}
		if len(row) != 2 {
			return nil, 0, fmt.Errorf("line %d: %d fields, not 2", line, len(row))
		}
		a, err := mail.ParseAddress(strings.TrimSpace(row[0]))
		if err != nil || a.Name != "" {
			return nil, 0, fmt.Errorf("line %d: %q is not a mail address", line, row[0])
		}
		key := strings.ToLower(a.Address)
		if seen[key] {
			repeated++
			continue
		}
		seen[key] = true
		list = append(list, recipient{Address: a.Address, Name: strings.TrimSpace(row[1])})
	}
}
