// Retries and streams, against a server that fails and writes as it is told.
package expertd_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	expertd "github.com/expertd/expertd/clients/go"
	pb "github.com/expertd/expertd/clients/go/expertdv1"
)

// frail fails its first calls, streams with or without a first message; then streams write its deltas.
type frail struct {
	pb.UnimplementedInferenceServiceServer
	failures   int32
	with       error
	afterFirst bool
	deltas     []*pb.Delta
	truncated  bool          // without a Summary
	left       chan struct{} // closed when a stream, which then never ends by itself, is cancelled
	calls      atomic.Int32
}

func (f *frail) fails() bool { return f.calls.Add(1) <= f.failures }

func (f *frail) Generate(context.Context, *pb.GenerateRequest) (*pb.GenerateResponse, error) {
	if f.fails() {
		return nil, f.with
	}
	return &pb.GenerateResponse{Id: "well"}, nil
}

func (f *frail) StreamGenerate(_ *pb.GenerateRequest,
	stream grpc.ServerStreamingServer[pb.StreamGenerateResponse]) error {
	fails := f.fails()
	if fails && !f.afterFirst {
		return f.with
	}
	accepted := &pb.StreamGenerateResponse_Accepted{Accepted: &pb.Accepted{NumCandidates: 1}}
	if err := stream.Send(&pb.StreamGenerateResponse{Event: accepted}); err != nil {
		return err
	}
	if fails {
		return f.with
	}
	for _, delta := range f.deltas {
		event := &pb.StreamGenerateResponse_Delta{Delta: delta}
		if err := stream.Send(&pb.StreamGenerateResponse{Event: event}); err != nil {
			return err
		}
	}
	if f.left != nil {
		<-stream.Context().Done()
		close(f.left)
	}
	if f.truncated {
		return nil
	}
	summary := &pb.StreamGenerateResponse_Summary{Summary: &pb.Summary{}}
	return stream.Send(&pb.StreamGenerateResponse{Event: summary})
}

// mute is a tokenizer that answers nothing.
type mute struct {
	pb.UnimplementedTokenizerServiceServer
}

func (mute) Tokenize(context.Context, *pb.TokenizeRequest) (*pb.TokenizeResponse, error) {
	return &pb.TokenizeResponse{}, nil
}

func (mute) Detokenize(context.Context, *pb.DetokenizeRequest) (*pb.DetokenizeResponse, error) {
	return &pb.DetokenizeResponse{}, nil
}

func (f *frail) serve(t *testing.T) *expertd.Client {
	t.Helper()
	listener := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	server := grpc.NewServer()
	pb.RegisterInferenceServiceServer(server, f)
	pb.RegisterTokenizerServiceServer(server, mute{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	client := must(expertd.New(listener.Addr().String(), expertd.WithRetry(
		expertd.Retry{Attempts: 3, Initial: time.Millisecond, Maximum: time.Millisecond, Factor: 1})))(t)
	t.Cleanup(func() { client.Close() })
	return client
}

// drain gives the number of deltas of a stream, and what it failed with.
func drain(stream *expertd.Stream) (count int, failed error) {
	for _, err := range stream.Deltas() {
		if err != nil {
			failed = err
		} else {
			count++
		}
	}
	return count, failed
}

// unavailable asks for a pause.
func unavailable(t *testing.T, pause time.Duration) error {
	t.Helper()
	asked := status.New(codes.Unavailable, "draining")
	return must(asked.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(pause)}))(t).Err()
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	unary := &frail{failures: 2, with: unavailable(t, time.Millisecond)}
	answer := must(unary.serve(t).Generate(context.Background(), expertd.Text("A")))(t)
	if answer.Id != "well" || unary.calls.Load() != 3 {
		t.Fatal(answer, unary.calls.Load())
	}

	streaming := &frail{failures: 2, with: unavailable(t, time.Millisecond), deltas: []*pb.Delta{{Text: "all"}}}
	stream := streaming.serve(t).Stream(context.Background(), expertd.Text("A"))
	count, err := drain(stream)
	if err != nil || count != 1 || stream.Response().Candidates[0].Text != "all" || streaming.calls.Load() != 3 {
		t.Fatal(count, err, stream.Response(), streaming.calls.Load())
	}
}

func TestWhatAStoppingServerCancelsIsUnavailable(t *testing.T) {
	cancelled := status.Error(codes.Canceled, "")
	unary := &frail{failures: 2, with: cancelled}
	must(unary.serve(t).Generate(context.Background(), expertd.Text("A")))(t)
	if unary.calls.Load() != 3 {
		t.Fatal(unary.calls.Load())
	}

	streaming := &frail{failures: 1, with: cancelled, afterFirst: true}
	_, err := drain(streaming.serve(t).Stream(context.Background(), expertd.Text("A")))
	failure(t, err, codes.Unavailable)
}

func TestClosingAClientCancelsItsCalls(t *testing.T) {
	server := &frail{left: make(chan struct{}), deltas: []*pb.Delta{{Text: "all"}}}
	client := server.serve(t)
	for _, err := range client.Stream(context.Background(), expertd.Text("A")).Deltas() {
		if err != nil {
			failure(t, err, codes.Canceled)
			return
		}
		client.Close()
	}
	t.Fatal("the stream ended well")
}

func TestAttemptsEnd(t *testing.T) {
	server := &frail{failures: 9, with: unavailable(t, time.Millisecond)}
	_, err := server.serve(t).Generate(context.Background(), expertd.Text("A"))
	if failure(t, err, codes.Unavailable).RetryDelay != time.Millisecond || server.calls.Load() != 3 {
		t.Fatal(err, server.calls.Load())
	}
}

func TestAStreamThatHasBegunIsNotTriedAgain(t *testing.T) {
	server := &frail{failures: 1, with: unavailable(t, time.Millisecond), afterFirst: true}
	stream := server.serve(t).Stream(context.Background(), expertd.Text("A"))
	_, err := drain(stream)
	failure(t, err, codes.Unavailable)
	if server.calls.Load() != 1 || stream.Response() != nil {
		t.Fatal(server.calls.Load())
	}
}

func TestOtherCodesAreNotTriedAgain(t *testing.T) {
	server := &frail{failures: 1, with: status.Error(codes.ResourceExhausted, "full")}
	_, err := server.serve(t).Generate(context.Background(), expertd.Text("A"))
	failure(t, err, codes.ResourceExhausted)
	if server.calls.Load() != 1 {
		t.Fatal(server.calls.Load())
	}
}

func TestAPauseBeyondTheDeadlineIsNotWaitedFor(t *testing.T) {
	server := &frail{failures: 1, with: unavailable(t, time.Hour)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := server.serve(t).Generate(ctx, expertd.Text("A"))
	failure(t, err, codes.Unavailable)
}

func TestCancellingEndsAPause(t *testing.T) {
	server := &frail{failures: 1, with: unavailable(t, time.Hour)}
	client := server.serve(t)
	ctx, cancel := context.WithCancel(context.Background())
	failed := make(chan error)
	go func() {
		_, err := client.Generate(ctx, expertd.Text("A"))
		failed <- err
	}()
	for server.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	failure(t, <-failed, codes.Canceled)
}

func TestLeavingAStreamEndsItsCall(t *testing.T) {
	server := &frail{deltas: []*pb.Delta{{Text: "A"}}, left: make(chan struct{})}
	for _, err := range server.serve(t).Stream(context.Background(), expertd.Text("A")).Deltas() {
		must(0, err)(t)
		break
	}
	select {
	case <-server.left:
	case <-time.After(10 * time.Second):
		t.Fatal("the call is still open")
	}
}

func TestPiecesOfCallsAreJoined(t *testing.T) {
	pieces := []*pb.ToolCall{
		{Id: "a", Name: "add", ArgumentsJson: `{"x"`},
		{ArgumentsJson: ": 1}"},
		{Index: 1, Id: "b", Name: "end", ArgumentsJson: "{"},
		{Index: 1, ArgumentsJson: "}"},
	}
	server := &frail{}
	for _, piece := range pieces {
		server.deltas = append(server.deltas, &pb.Delta{ToolCalls: []*pb.ToolCall{piece}})
	}
	stream := server.serve(t).Stream(context.Background(), expertd.Text("A"))

	must(drain(stream))(t)

	calls := stream.Response().Candidates[0].ToolCalls
	if len(calls) != 2 || calls[0].Id != "a" || calls[0].ArgumentsJson != `{"x": 1}` || calls[1].Name != "end" ||
		calls[1].ArgumentsJson != "{}" {
		t.Fatal(calls)
	}
}

func TestAStreamWithoutAnEndIsAnError(t *testing.T) {
	server := &frail{truncated: true}
	stream := server.serve(t).Stream(context.Background(), expertd.Text("A"))
	_, err := drain(stream)
	failure(t, err, codes.Internal)
}

func TestTokenizersThatAnswerNothingAreAnError(t *testing.T) {
	client := (&frail{}).serve(t)
	_, err := client.Tokenize(context.Background(), "A")
	failure(t, err, codes.Internal)
	_, err = client.Detokenize(context.Background(), []uint32{1})
	failure(t, err, codes.Internal)
}
