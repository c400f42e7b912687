// Against the server at EXPERTD_TARGET, which a test of the repository starts.
package expertd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	expertd "github.com/expertd/expertd/clients/go"
	pb "github.com/expertd/expertd/clients/go/expertdv1"
)

func newClient(t *testing.T, options ...expertd.Option) *expertd.Client {
	t.Helper()
	target := os.Getenv("EXPERTD_TARGET")
	if target == "" {
		t.Skip("EXPERTD_TARGET is not set")
	}
	client, err := expertd.New(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func limited(request *pb.GenerateRequest, maxTokens uint32, seed uint64) *pb.GenerateRequest {
	request.Stop = &pb.StopConditions{MaxTokens: &maxTokens}
	request.Sampling = &pb.SamplingParams{Seed: &seed}
	return request
}

func long() *pb.GenerateRequest {
	request := limited(expertd.Text("Once"), 1500, 1)
	request.Stop.IgnoreEos = expertd.Ptr(true)
	return request
}

// must is for calls that should not fail: must(client.Load(ctx))(t).
func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func failure(t *testing.T, err error, code codes.Code) *expertd.Error {
	t.Helper()
	var failure *expertd.Error
	if !errors.As(err, &failure) || failure.Code != code || status.Code(err) != code {
		t.Fatalf("%v is no %v", err, code)
	}
	return failure
}

func waitIdle(t *testing.T, client *expertd.Client) {
	t.Helper()
	for range 500 {
		load := must(client.Load(context.Background()))(t)
		if load.GetRanks()[0].GetNumRunning() == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the server is still busy")
}

func TestEveryKindOfPrompt(t *testing.T) {
	client, ctx := newClient(t), context.Background()
	ids := must(client.Tokenize(ctx, "Once upon a time"))(t)
	if text := must(client.Detokenize(ctx, ids))(t); text != "Once upon a time" {
		t.Error(text)
	}
	byText := must(client.Generate(ctx, limited(expertd.Text("Once upon a time"), 20, 3)))(t)
	byIDs := must(client.Generate(ctx, limited(expertd.Tokens(ids...), 20, 3)))(t)
	if byText.Candidates[0].Text != byIDs.Candidates[0].Text || byText.Usage.CompletionTokens != 20 {
		t.Error(byText, byIDs)
	}
	question := expertd.Chat(expertd.User("What is the capital of France?"))
	question.Sampling = &pb.SamplingParams{Temperature: expertd.Ptr[float32](0)}
	answer := must(client.Generate(ctx, question))(t)
	if !strings.Contains(answer.Candidates[0].Text, "Paris") {
		t.Error(answer)
	}
	prompt := must(client.RenderChat(ctx, question))(t)
	if !strings.Contains(prompt, "What is the capital of France?") {
		t.Error(prompt)
	}
	question.Model = "other"
	var failure *expertd.Error
	if _, err := client.RenderChat(ctx, question); !errors.As(err, &failure) || failure.Code != codes.NotFound {
		t.Error(err)
	}
}

func TestAStreamMakesTheSameAnswer(t *testing.T) {
	client, ctx := newClient(t), context.Background()
	request := limited(expertd.Text("Once"), 24, 5)
	request.Sampling.N = expertd.Ptr[uint32](2)
	request.Output = &pb.OutputOptions{TokenIds: expertd.Ptr(true),
		Logprobs: &pb.LogprobOptions{Select: &pb.LogprobOptions_TopN{TopN: 2}}}
	whole := must(client.Generate(ctx, request))(t)
	stream := client.Stream(ctx, request)
	if stream.Response() != nil {
		t.Error("an answer before its end")
	}
	second := ""
	for delta, err := range stream.Deltas() {
		if must(delta, err)(t).GetIndex() == 1 {
			second += delta.GetText()
		}
	}
	streamed := stream.Response()
	if second != whole.Candidates[1].Text {
		t.Error(second)
	}
	for i := range whole.Candidates {
		if !proto.Equal(whole.Candidates[i], streamed.Candidates[i]) {
			t.Error(whole.Candidates[i], streamed.Candidates[i])
		}
	}
	if !proto.Equal(whole.Usage, streamed.Usage) {
		t.Error(streamed.Usage)
	}
}

func TestLeavingAStreamCancelsIt(t *testing.T) {
	client := newClient(t)
	for delta, err := range client.Stream(context.Background(), long()).Deltas() {
		must(delta, err)(t)
		break
	}
	waitIdle(t, client)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var last error
	for _, err := range client.Stream(ctx, long()).Deltas() {
		cancel()
		last = err
	}
	failure(t, last, codes.Canceled)
	waitIdle(t, client)
}

func TestADeadlineEndsTheCallAndTheWork(t *testing.T) {
	client := newClient(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := client.Generate(ctx, long())
	failure(t, err, codes.DeadlineExceeded)
	waitIdle(t, client)
}

func TestErrorsHaveCodesReasonsAndFields(t *testing.T) {
	client, ctx := newClient(t), context.Background()
	request := expertd.Text("A")
	request.RequestId = "mine"
	request.Sampling = &pb.SamplingParams{Temperature: expertd.Ptr[float32](9)}
	_, err := client.Generate(ctx, request)
	wrong := failure(t, err, codes.InvalidArgument)
	if wrong.Reason != "INVALID_PARAMETER" || wrong.RequestID != "mine" || len(wrong.Violations) != 1 ||
		wrong.Violations[0].Field != "sampling.temperature" {
		t.Errorf("%+v", wrong)
	}
	for delta, err := range client.Stream(ctx, request).Deltas() {
		if delta != nil {
			t.Error(delta)
		}
		failure(t, err, codes.InvalidArgument)
	}
	_, err = client.Generate(ctx, expertd.Tokens(slices.Repeat([]uint32{5}, 5000)...))
	tooLong := failure(t, err, codes.InvalidArgument)
	if tooLong.Reason != "CONTEXT_LENGTH_EXCEEDED" || tooLong.Metadata["promptTokens"] != "5000" {
		t.Errorf("%+v", tooLong)
	}
	_, err = client.Model(ctx, "other")
	failure(t, err, codes.NotFound)
}

func TestAnswersBeyondFourMegabytesArrive(t *testing.T) {
	request := &pb.TokenizeRequest{
		Texts:  []string{strings.Repeat("1 a\n", 1<<18)},
		Pieces: expertd.Ptr(true), Offsets: expertd.Ptr(true),
	}
	response := must(newClient(t).Tokenizer.Tokenize(context.Background(), request))(t)
	if size := proto.Size(response); size <= 4<<20 {
		t.Fatalf("%d bytes prove nothing", size)
	}
}

func TestModels(t *testing.T) {
	client, ctx := newClient(t), context.Background()
	models, served := must(client.Models(ctx))(t), must(client.Model(ctx, ""))(t)
	if len(models) != 1 || !proto.Equal(models[0], served) {
		t.Fatal(models, served)
	}
}

func TestRetriesEnd(t *testing.T) {
	newClient(t)
	client := must(expertd.New(os.Getenv("EXPERTD_NOBODY"),
		expertd.WithRetry(expertd.Retry{Attempts: 3, Initial: time.Millisecond, Maximum: time.Millisecond, Factor: 2})))(t)
	defer client.Close()
	if client.Ready(context.Background()) {
		t.Error("nobody is ready")
	}
	_, err := client.Generate(context.Background(), expertd.Text("A"))
	failure(t, err, codes.Unavailable)
	for _, err := range client.Stream(context.Background(), expertd.Text("A")).Deltas() {
		failure(t, err, codes.Unavailable)
	}
}

func TestAServerThatStartsLateIsWaitedFor(t *testing.T) {
	key := os.Getenv("EXPERTD_KEY")
	if key == "" {
		t.Skip("EXPERTD_KEY is not set")
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(must(os.ReadFile(os.Getenv("EXPERTD_CA")))(t)) {
		t.Fatal("EXPERTD_CA holds no certificate")
	}
	encrypted := expertd.WithTLS(&tls.Config{RootCAs: authorities})
	client := newClient(t, encrypted, expertd.WithAPIKey(key), expertd.WithRetry(
		expertd.Retry{Attempts: 300, Initial: 50 * time.Millisecond, Maximum: 100 * time.Millisecond, Factor: 2}))
	answer, err := client.Generate(context.Background(), limited(expertd.Text("Once"), 3, 1))
	if must(answer, err)(t).GetUsage().GetCompletionTokens() != 3 {
		t.Error(answer)
	}
	_, err = newClient(t, encrypted).Generate(context.Background(), expertd.Text("A"))
	failure(t, err, codes.Unauthenticated)
}

func TestCallsAtOnce(t *testing.T) {
	client := newClient(t)
	if !client.Ready(context.Background()) {
		t.Fatal("not ready")
	}
	expected := must(client.Generate(context.Background(), limited(expertd.Text("Two"), 12, 2)))(t)
	var group sync.WaitGroup
	for range 16 {
		group.Add(1)
		go func() {
			defer group.Done()
			answer, err := client.Generate(context.Background(), limited(expertd.Text("Two"), 12, 2))
			if err != nil || answer.Candidates[0].Text != expected.Candidates[0].Text {
				t.Error(answer, err)
			}
		}()
	}
	group.Wait()
	info, err := client.ServerInfo(context.Background())
	if !regexp.MustCompile(`^\d+\.\d+\.\d+`).MatchString(must(info, err)(t).GetVersion()) {
		t.Error(info)
	}
}

// The example of README.md.
func Example() {
	target := os.Getenv("EXPERTD_TARGET")
	if target == "" {
		fmt.Println("The capital of France is Paris.")
		return
	}
	client, err := expertd.New(target)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	request := expertd.Chat(expertd.User("What is the capital of France?"))
	request.Sampling = &pb.SamplingParams{Temperature: expertd.Ptr[float32](0)}
	answer, err := client.Generate(context.Background(), request)
	if err != nil {
		panic(err)
	}
	fmt.Println(answer.GetCandidates()[0].GetText())
	// Output: The capital of France is Paris.
}
