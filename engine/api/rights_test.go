package api_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/engine/api"
)

// methodsOfAPI are all methods of all services.
func methodsOfAPI() (all []protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFilesByPackage("heddle.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				all = append(all, f.Services().Get(i).Methods().Get(j))
			}
		}
		return true
	})
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int { return strings.Compare(pathOf(a), pathOf(b)) })
	return all
}

func pathOf(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// gated serves an API without anything behind it: a call that is let through
// fails in its handler, which is internal.
func gated(t *testing.T, gate *access.Gate) *httptest.Server {
	t.Helper()
	config := api.DefaultConfig()
	config.Gate = gate
	h, err := api.New(config, api.Deps{Cluster: struct{ api.Cluster }{}})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// outcomeOf calls a method with an empty message and gives the code, "" for none.
func outcomeOf(t *testing.T, s *httptest.Server, m protoreflect.MethodDescriptor, headers map[string]string) string {
	t.Helper()
	body, kind := []byte("{}"), "application/json"
	if m.IsStreamingClient() || m.IsStreamingServer() {
		body = append(binary.BigEndian.AppendUint32([]byte{0}, 2), '{', '}')
		kind = "application/connect+json"
	}
	req, err := http.NewRequest(http.MethodPost, s.URL+pathOf(m), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if kind == "application/json" {
		return codeIn(answer)
	}
	// The last envelope, marked 2, tells how a stream ended.
	for len(answer) >= 5 {
		n := int(binary.BigEndian.Uint32(answer[1:5]))
		if answer[0]&2 != 0 {
			var end struct{ Error json.RawMessage }
			if err := json.Unmarshal(answer[5:5+n], &end); err != nil {
				t.Fatal(err)
			}
			return codeIn(end.Error)
		}
		answer = answer[5+n:]
	}
	t.Fatalf("%s: the stream has no end", pathOf(m))
	return ""
}

func codeIn(answer []byte) string {
	var e struct{ Code string }
	_ = json.Unmarshal(answer, &e) // no code in what is none
	return e.Code
}

// allowed tells whether a code is one behind the gate.
func allowed(code string) bool {
	return code != connect.CodeUnauthenticated.String() && code != connect.CodePermissionDenied.String()
}

// changes are the methods that change something, written down by hand: a new
// method that is in no list fails the test.
var (
	operators = words(`WorkflowService/Submit WorkflowService/SubmitStream WorkflowService/Append WorkflowService/Cancel
		WorkflowService/Retry WorkflowService/Dismiss WorkflowService/GiveUp WorkflowService/Seal WorkflowService/Pause
		WorkflowService/Resume WorkflowService/Delete QueueService/Pause QueueService/Resume JobService/RunNow
		SessionService/Drain OperationService/Start OperationService/Stop`)
	admins  = words(`ClusterService/Remove ClusterService/Transfer ClusterService/Adopt`)
	viewers = words(`WorkflowService/Get WorkflowService/List WorkflowService/Graph WorkflowService/Nodes WorkflowService/Watch
		WorkflowService/Wait WorkflowService/Results WorkflowService/Mosaic WorkflowService/Members WorkflowService/Lineage
		WorkflowService/CriticalPath WorkflowService/Timeline WorkflowService/Events QueueService/List JobService/Get
		JobService/List JobService/Explain JobService/Groups JobService/Relatives SessionService/List OperationService/Count
		OperationService/Get OperationService/List ClusterService/Status BatchService/List BatchService/Get
		StatsService/History StatsService/Failures StatsService/Database LiveService/Watch LiveService/Look`)
	workers = words(`WorkerService/OpenSession WorkerService/Poll WorkerService/Report WorkerService/Heartbeat WorkerService/CloseSession`)
	peers   = words(`PeerService/Meet PeerService/Join PeerService/Hint PeerService/Describe`)
	anybody = words(`AccessService/WhoAmI AccessService/Login AccessService/Logout`)
	// forHandlers are what a worker's handlers may beside: Append under a lease,
	// which the handler checks.
	forHandlers = words(`WorkflowService/Results WorkflowService/Append`)
)

func words(list string) map[string]bool {
	all := map[string]bool{}
	for _, w := range strings.Fields(list) {
		all[w] = true
	}
	return all
}

// Every role tries every method.
func TestEveryRoleTriesEveryMethod(t *testing.T) {
	secrets := map[access.Role]string{}
	var lines []string
	for _, r := range []access.Role{access.Viewer, access.Operator, access.Admin, access.Worker} {
		secret, line, err := access.NewToken(r.String(), r)
		if err != nil {
			t.Fatal(err)
		}
		secrets[r], lines = secret, append(lines, line)
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := access.OpenTokens(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "0123456789abcdef"
	plain := gated(t, access.NewGate(access.Config{Tokens: tokens, Secret: secret}))
	readOnly := gated(t, access.NewGate(access.Config{Tokens: tokens, Secret: secret, ReadOnly: true}))

	bearer := func(r access.Role) map[string]string {
		return map[string]string{"Authorization": "Bearer " + secrets[r]}
	}
	for _, m := range methodsOfAPI() {
		name := strings.TrimPrefix(pathOf(m), "/heddle.v1.")
		listed := 0
		for _, list := range []map[string]bool{operators, admins, viewers, workers, peers, anybody} {
			if list[name] {
				listed++
			}
		}
		if listed != 1 {
			t.Errorf("%s stands in %d lists of this test", name, listed)
			continue
		}
		may := map[access.Role]bool{
			access.Nobody:   anybody[name],
			access.Viewer:   anybody[name] || viewers[name],
			access.Operator: anybody[name] || viewers[name] || operators[name] || workers[name],
			access.Admin:    anybody[name] || viewers[name] || operators[name] || workers[name] || admins[name],
			access.Worker:   anybody[name] || workers[name] || forHandlers[name] && name != "WorkflowService/Append",
		}
		for role, want := range may {
			headers := map[string]string{}
			if role != access.Nobody {
				headers = bearer(role)
			}
			code := outcomeOf(t, plain, m, headers)
			if name == "AccessService/Login" {
				code = "" // it refuses the empty token
			}
			if name == "WorkflowService/Append" && role == access.Worker {
				continue // it goes by the lease: TestAppendOfWorkers
			}
			if allowed(code) != want {
				t.Errorf("%s by %s: %q", name, role, code)
			}
			if role == access.Nobody && !want && !peers[name] && code != connect.CodeUnauthenticated.String() {
				t.Errorf("%s by nobody: %q", name, code)
			}
			if name == "AccessService/Login" || peers[name] {
				continue
			}
			want = want && !operators[name] && !admins[name]
			if code := outcomeOf(t, readOnly, m, headers); allowed(code) != want {
				t.Errorf("%s by %s, read-only: %q", name, role, code)
			}
		}
		if code := outcomeOf(t, plain, m, map[string]string{"Authorization": "Bearer nonsense"}); !anybody[name] && allowed(code) {
			t.Errorf("%s with a wrong token: %q", name, code)
		}
		// Nodes, by themselves and for others.
		node := map[string]string{access.SecretHeader: secret}
		if code := outcomeOf(t, plain, m, node); name != "AccessService/Login" && !allowed(code) {
			t.Errorf("%s by a node: %q", name, code)
		}
		forViewer := maps.Clone(node)
		forViewer["Heddle-Forwarded"], forViewer["Heddle-Caller"] = "n2", "viewer ada"
		if code := outcomeOf(t, plain, m, forViewer); name != "AccessService/Login" && allowed(code) != (may[access.Viewer] || peers[name]) {
			t.Errorf("%s by a node for a viewer: %q", name, code)
		}
		liar := maps.Clone(forViewer)
		liar[access.SecretHeader], liar["Heddle-Caller"] = "guessed", "admin eve"
		if code := outcomeOf(t, plain, m, liar); !anybody[name] && allowed(code) {
			t.Errorf("%s by somebody who says to be a node: %q", name, code)
		}
	}
}

// A worker's handlers may add nodes under the lease of their job, and not
// otherwise.
func TestAppendOfWorkers(t *testing.T) {
	const secret = "0123456789abcdef"
	s := gated(t, access.NewGate(access.Config{Secret: secret}))
	const lease = `"lease": {"workflowId": "AZrV3dABcAGAAAAAAAAAAQ==", "node": 1, "lease": "7", "session": "9"}`
	for body, want := range map[string]bool{
		`{"workflowId": "019ad5dd-d001-7001-8000-000000000001"}`:                                         false,
		`{"workflowId": "019ad5dd-d001-7001-8000-000000000001", "key": "k", "graph": {}, ` + lease + `}`: true,
	} {
		req, err := http.NewRequest(http.MethodPost, s.URL+"/heddle.v1.WorkflowService/Append", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{"Content-Type": "application/json", access.SecretHeader: secret, "Heddle-Forwarded": "n2", "Heddle-Caller": "worker w"} {
			req.Header.Set(k, v)
		}
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if allowed(codeIn(answer)) != want {
			t.Errorf("%s: %s", body, answer)
		}
	}
}

// Bodies that a form can send without asking are no calls, and a page of another
// origin gets nowhere whatever it sends.
func TestForgedCalls(t *testing.T) {
	s := gated(t, access.NewGate(access.Config{})) // this machine: every call is an admin's
	for _, m := range methodsOfAPI() {
		name := pathOf(m)
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			req, err := http.NewRequest(http.MethodPost, s.URL+name, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", kind)
			res, err := s.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusUnsupportedMediaType {
				t.Errorf("%s with %s: %s", name, kind, res.Status)
			}
		}
		for _, headers := range []map[string]string{
			{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
		} {
			if res := status(t, s, name, headers, ""); res != http.StatusForbidden {
				t.Errorf("%s with %v: %d", name, headers, res)
			}
		}
		// A name that somebody made to point at this machine.
		if code := status(t, s, name, nil, "evil.example:7400"); !strings.Contains(name, "Access") && code == http.StatusInternalServerError {
			t.Errorf("%s by DNS rebinding: %d", name, code)
		}
	}
}

func status(t *testing.T, s *httptest.Server, path string, headers map[string]string, host string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.URL+path, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	if host != "" {
		req.Host = host
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// Every field of every answer that holds bytes is either hidden from viewers or
// known not to be a payload.
func TestEveryPayloadIsKnown(t *testing.T) {
	harmless := map[string]bool{
		"heddle.v1.MosaicResponse.states": true,
		"heddle.v1.Lease.workflow_id":     true, "heddle.v1.LeaseRef.workflow_id": true, "heddle.v1.HeldLease.workflow_id": true,
	}
	seen := map[protoreflect.FullName]bool{}
	var walk func(d protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if f.Message() != nil {
				walk(f.Message())
			}
			payload := slices.Contains([]string{"args", "result", "args_json", "result_json"}, string(f.Name()))
			if f.Kind() == protoreflect.BytesKind && !payload && !harmless[string(f.FullName())] {
				t.Errorf("%s holds bytes: are they a payload?", f.FullName())
			}
			if strings.HasSuffix(string(f.Name()), "_json") && !payload {
				t.Errorf("%s holds JSON: is it a payload?", f.FullName())
			}
		}
	}
	for _, m := range methodsOfAPI() {
		walk(m.Output())
	}
	if len(seen) < 50 {
		t.Errorf("only %d messages were looked at", len(seen))
	}
}

// fill sets every field of a message to something, to a depth.
func fill(m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		f := m.Descriptor().Fields().Get(i)
		value := func(v protoreflect.Value) protoreflect.Value {
			if f.Message() != nil && !f.IsMap() {
				fill(v.Message(), depth-1)
				return v
			}
			switch f.Kind() {
			case protoreflect.StringKind:
				return protoreflect.ValueOfString("SECRET")
			case protoreflect.BytesKind:
				return protoreflect.ValueOfBytes([]byte("SECRET"))
			}
			return v
		}
		switch {
		case f.IsMap(), f.Message() != nil && depth == 0:
		case f.IsList():
			l := m.Mutable(f).List()
			l.Append(value(l.NewElement()))
		case f.Message() != nil:
			value(m.Mutable(f))
		default:
			m.Set(f, value(m.NewField(f)))
		}
	}
}

// payloadsIn lists the payloads that are set in a message, however deep.
func payloadsIn(m protoreflect.Message, at string) (found []string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		path := at + "." + string(f.Name())
		switch {
		case slices.Contains([]string{"args", "result", "args_json", "result_json"}, string(f.Name())):
			found = append(found, path)
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				found = append(found, payloadsIn(v.List().Get(i).Message(), path)...)
			}
		default:
			found = append(found, payloadsIn(v.Message(), path)...)
		}
		return true
	})
	return found
}

// Arguments and results are hidden in every answer that can carry them, and the
// answer as others see it is left alone.
func TestMaskedAnswers(t *testing.T) {
	carriers := 0
	for _, m := range methodsOfAPI() {
		answer := dynamicpb.NewMessage(m.Output())
		fill(answer, 6)
		before := proto.Clone(answer)
		carried := payloadsIn(answer, "")
		if len(carried) > 0 {
			carriers++
		}
		shown, ok := api.Masked(answer).(proto.Message)
		if !ok {
			t.Fatalf("%s: no message", pathOf(m))
		}
		if left := payloadsIn(shown.ProtoReflect(), ""); len(left) > 0 {
			t.Errorf("%s shows %v", pathOf(m), left)
		}
		if !proto.Equal(answer, before) {
			t.Errorf("%s: the answer itself is changed", pathOf(m))
		}
		if len(carried) == 0 && !proto.Equal(shown, before) {
			t.Errorf("%s: more is hidden than payloads", pathOf(m))
		}
	}
	if carriers < 6 {
		t.Errorf("only %d methods answer with payloads", carriers)
	}
}

// Login and logout over HTTP, as a page does it.
func TestLogin(t *testing.T) {
	secret, line, err := access.NewToken("ada", access.Operator)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := access.OpenTokens(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := api.DefaultConfig()
	config.Gate = access.NewGate(access.Config{Tokens: tokens})
	inner, err := api.New(config, api.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.StripPrefix("/admin/heddle", inner))
	t.Cleanup(s.Close)
	call := func(method, body, cookie string, headers ...string) (map[string]any, []*http.Cookie) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.URL+"/admin/heddle/heddle.v1.AccessService/"+method, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Origin", s.URL)
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var m map[string]any
		if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		return m, res.Cookies()
	}
	if me, _ := call("WhoAmI", "{}", ""); me["loginRequired"] != true || me["role"] != nil || me["base"] != "/admin/heddle" {
		t.Errorf("before: %v", me)
	}
	if m, set := call("Login", `{"token": "nonsense"}`, ""); m["code"] != "unauthenticated" || len(set) != 0 {
		t.Errorf("a wrong token: %v %v", m, set)
	}
	m, set := call("Login", fmt.Sprintf(`{"token": %q}`, secret), "", "X-Forwarded-Proto", "https")
	if m["name"] != "ada" || m["role"] != "ROLE_OPERATOR" || len(set) != 1 {
		t.Fatalf("login: %v %v", m, set)
	}
	c := set[0]
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/admin/heddle/" {
		t.Errorf("cookie %s", c)
	}
	if me, _ := call("WhoAmI", "{}", c.Name+"="+c.Value); me["name"] != "ada" || me["loginRequired"] == true {
		t.Errorf("after: %v", me)
	}
	if _, set := call("Logout", "{}", ""); len(set) != 1 || set[0].MaxAge >= 0 {
		t.Errorf("logout: %v", set)
	}
}
