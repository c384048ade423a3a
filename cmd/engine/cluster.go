package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

const clusterSynopsis = `cluster status|remove|transfer|adopt [flags]

  status           shows the nodes; exit code 1 if no leader dispatches
  remove ID        takes a node out for good; stop it then
  transfer [ID]    lets another node lead: the one that is furthest, or ID
  adopt            takes the database from the cluster --owner, which is gone
                   for good; what was running there then runs again`

// clusterTime bounds one command.
const clusterTime = 20 * time.Second

// clusterFlags say how to call an engine.
type clusterFlags struct {
	engine, token, ca, cert, key, owner string
	json                                bool
}

// cluster shows or changes the cluster of engine nodes.
func (p program) cluster(ctx context.Context, args []string) error {
	var f clusterFlags
	fs := p.flags("cluster", clusterSynopsis)
	fs.StringVar(&f.engine, "engine", "http://127.0.0.1:7400", "`URL` of any node")
	fs.StringVar(&f.token, "token", "", "`token` to show, where the engine wants one")
	fs.StringVar(&f.ca, "tls-ca", "", "`file` of the CA that signed the engine's certificate; empty: the system's")
	fs.StringVar(&f.cert, "tls-cert", "", "`file` of a client certificate to show")
	fs.StringVar(&f.key, "tls-key", "", "`file` of its key")
	fs.StringVar(&f.owner, "owner", "", "adopt: `id` of the cluster that owned the database, as the refusal names it")
	fs.BoolVar(&f.json, "json", false, "print JSON")
	action, name, err := p.clusterArgs(fs, args)
	if err != nil {
		return err
	}
	client, err := f.client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, clusterTime)
	defer cancel()
	return f.plain(p.clusterDo(ctx, client, f, action, name))
}

// clusterArgs reads the command line: the action and its name stand before, behind
// or between the flags.
func (p program) clusterArgs(fs *flag.FlagSet, args []string) (action, name string, err error) {
	var words []string
	for {
		for len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			words, args = append(words, args[0]), args[1:]
		}
		if err := p.parse(fs, args); err != nil {
			return "", "", err
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
	}
	usage := func(format string, args ...any) error {
		fmt.Fprintf(p.err, "engine cluster: "+format+"\n", args...)
		fs.Usage()
		return errUsage
	}
	words = append(words, "", "")
	action, name = words[0], words[1]
	switch {
	case action != "status" && action != "remove" && action != "transfer" && action != "adopt":
		return "", "", usage("%q is none of status, remove, transfer, adopt", action)
	case action == "remove" && name == "":
		return "", "", usage("remove takes the id of a node")
	case len(words) > 4, name != "" && (action == "status" || action == "adopt"):
		return "", "", usage("unexpected argument %q", words[len(words)-3])
	case action == "adopt" && fs.Lookup("owner").Value.String() == "":
		return "", "", usage("adopt takes --owner, the cluster whose database it is: \"engine cluster status\" and the engine's log name it")
	}
	return action, name, nil
}

func (p program) clusterDo(ctx context.Context, client heddlev1connect.ClusterServiceClient, f clusterFlags, action, name string) error {
	switch action {
	case "remove":
		if _, err := client.Remove(ctx, connect.NewRequest(&heddlev1.ClusterServiceRemoveRequest{Id: name})); err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%s is no member any more; stop its engine, and remove its data directory before it joins again\n", name)
	case "transfer":
		res, err := client.Transfer(ctx, connect.NewRequest(&heddlev1.ClusterServiceTransferRequest{To: name}))
		if err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%s leads\n", res.Msg.GetLeader())
	case "adopt":
		if _, err := client.Adopt(ctx, connect.NewRequest(&heddlev1.ClusterServiceAdoptRequest{Owner: f.owner})); err != nil {
			return err
		}
		fmt.Fprintln(p.out, "the database is this cluster's; its leader takes over within seconds")
	default:
		res, err := client.Status(ctx, connect.NewRequest(&heddlev1.ClusterServiceStatusRequest{}))
		if err != nil {
			return err
		}
		if f.json {
			b, err := protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Marshal(res.Msg)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.out, string(b))
		} else if err := p.showCluster(res.Msg); err != nil {
			return err
		}
		if !res.Msg.GetDispatching() {
			return noLeader(res.Msg)
		}
	}
	return nil
}

// client makes the client that the flags describe.
func (f clusterFlags) client() (heddlev1connect.ClusterServiceClient, error) {
	u, err := url.Parse(f.engine)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("--engine: %q is no URL as http://host:port", f.engine)
	}
	config := &tls.Config{}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: no certificate in %s", f.ca)
		}
	}
	if f.cert != "" || f.key != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	var options []connect.ClientOption
	if f.token != "" {
		options = append(options, connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
			return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
				req.Header().Set("Authorization", "Bearer "+f.token)
				return next(ctx, req)
			}
		})))
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment}
	return heddlev1connect.NewClusterServiceClient(&http.Client{Transport: transport}, f.engine, options...), nil
}

// plain gives an error of a call without the names of the protocol.
func (f clusterFlags) plain(err error) error {
	var e *connect.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case connect.CodeUnavailable:
		return fmt.Errorf("%s: %s", f.engine, e.Message())
	case connect.CodeUnimplemented:
		return fmt.Errorf("%s is no engine that knows of clusters: %s", f.engine, e.Message())
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return fmt.Errorf("%s; --token (or %s) has the token to show", e.Message(), variable("token"))
	}
	return errors.New(e.Message())
}

// noLeader says why nothing is handed out, and what to do.
func noLeader(s *heddlev1.ClusterServiceStatusResponse) error {
	voters, up := 0, 0
	for _, m := range s.GetMembers() {
		if m.GetSuffrage() != heddlev1.Suffrage_SUFFRAGE_VOTER {
			continue
		}
		voters++
		if m.GetState() != "" {
			up++
		}
	}
	switch {
	case voters == 0:
		return errors.New("no cluster yet: " + cmp.Or(s.GetTrouble(), "the node waits for others"))
	case up < int(s.GetQuorum()):
		return fmt.Errorf("no quorum: %d of %d voters answer, %d must: start the others; submissions and reads go on meanwhile", up, voters, s.GetQuorum())
	}
	return errors.New("no leader dispatches: " + cmp.Or(s.GetTrouble(), "an election or a takeover is under way; ask again"))
}

// showCluster prints the cluster for people.
func (p program) showCluster(s *heddlev1.ClusterServiceStatusResponse) error {
	if s.GetClusterId() == "" {
		fmt.Fprintf(p.out, "node %s belongs to no cluster yet\n", s.GetNode())
	} else {
		fmt.Fprintf(p.out, "cluster %s, epoch %d, term %d, leader %s, quorum %d of %d voters\n",
			s.GetClusterId(), s.GetEpoch(), s.GetTerm(), cmp.Or(s.GetLeader(), "unknown"), s.GetQuorum(), votersOf(s))
		fmt.Fprintf(p.out, "%d sessions, %d leases; %s\n", s.GetSessions(), s.GetLeases(), agreement(s.GetMembers()))
	}
	if len(s.GetMembers()) > 0 {
		fmt.Fprintln(p.out)
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NODE\tROLE\tADDRESS\tLAG\tLAST CONTACT\tVERSION")
		for _, m := range s.GetMembers() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", m.GetId(), role(m), m.GetAddress(), lag(m, s), contact(m), cmp.Or(m.GetVersion(), "?"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, m := range s.GetMembers() {
		if m.GetTrouble() != "" && m.GetId() != s.GetNode() {
			fmt.Fprintf(p.out, "\n%s: %s\n", m.GetId(), m.GetTrouble())
		}
	}
	if s.GetTrouble() != "" {
		fmt.Fprintf(p.out, "\n%s: %s\n", s.GetNode(), s.GetTrouble())
	}
	return nil
}

func votersOf(s *heddlev1.ClusterServiceStatusResponse) (n int) {
	for _, m := range s.GetMembers() {
		if m.GetSuffrage() == heddlev1.Suffrage_SUFFRAGE_VOTER {
			n++
		}
	}
	return n
}

func role(m *heddlev1.Member) string {
	switch {
	case m.GetLeader():
		return "leader"
	case m.GetState() == "":
		return "away"
	case m.GetSuffrage() == heddlev1.Suffrage_SUFFRAGE_NONVOTER:
		return "joining"
	}
	return m.GetState()
}

// lag is how many log entries a member is behind the leader.
func lag(m *heddlev1.Member, s *heddlev1.ClusterServiceStatusResponse) string {
	switch last := leaderIndex(s); {
	case m.GetLeader():
		return "-"
	case last == 0 || m.GetMatchIndex() == 0:
		return "?"
	default:
		return fmt.Sprint(last - min(last, m.GetMatchIndex()))
	}
}

func leaderIndex(s *heddlev1.ClusterServiceStatusResponse) uint64 {
	for _, m := range s.GetMembers() {
		if m.GetLeader() {
			return m.GetMatchIndex()
		}
	}
	return 0
}

func contact(m *heddlev1.Member) string {
	switch {
	case m.GetLeader():
		return "-"
	case m.GetLastContact() == nil:
		return "?"
	}
	d := m.GetLastContact().AsDuration()
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// agreement tells whether the members hold the same state, as far as they have
// looked at the same place of the log.
func agreement(members []*heddlev1.Member) string {
	at := make(map[uint64]map[string][]string) // by index and hash
	for _, m := range members {
		if m.GetCheckedIndex() == 0 {
			continue
		}
		if at[m.GetCheckedIndex()] == nil {
			at[m.GetCheckedIndex()] = make(map[string][]string)
		}
		by := at[m.GetCheckedIndex()]
		by[m.GetStateHash()] = append(by[m.GetStateHash()], m.GetId())
	}
	equal := 0
	for index, hashes := range at {
		if len(hashes) > 1 {
			return fmt.Sprintf("replicated state DIFFERS at entry %d: %v", index, hashes)
		}
		for _, ids := range hashes {
			equal = max(equal, len(ids))
		}
	}
	if equal < 2 {
		return "replicated state not compared yet"
	}
	return fmt.Sprintf("replicated state equal on %d of %d nodes", equal, len(members))
}
