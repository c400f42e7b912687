package expertd

import pb "github.com/expertd/expertd/clients/go/expertdv1"

// collector makes a stream's events into the answer that Generate would have given.
type collector struct {
	response pb.GenerateResponse
	isWhole  bool
}

// add takes the next event; its delta, if it has one.
func (c *collector) add(event *pb.StreamGenerateResponse) *pb.Delta {
	switch event := event.GetEvent().(type) {
	case *pb.StreamGenerateResponse_Accepted:
		accepted := event.Accepted
		c.response.Id, c.response.Model = accepted.GetId(), accepted.GetModel()
		c.response.CreateTime, c.response.SystemFingerprint = accepted.GetCreateTime(), accepted.GetSystemFingerprint()
		c.response.Warnings = accepted.GetWarnings()
		for index := range accepted.GetNumCandidates() {
			c.response.Candidates = append(c.response.Candidates, &pb.Candidate{Index: index})
		}
	case *pb.StreamGenerateResponse_Prompt:
		c.response.Prompt = event.Prompt
	case *pb.StreamGenerateResponse_Delta:
		c.append(event.Delta)
		return event.Delta
	case *pb.StreamGenerateResponse_Finished:
		if candidate := c.at(event.Finished.GetIndex()); candidate != nil {
			candidate.FinishReason, candidate.StopMatch = event.Finished.GetFinishReason(), event.Finished.GetStopMatch()
			candidate.Seed = event.Finished.Seed
		}
	case *pb.StreamGenerateResponse_Summary:
		c.response.Usage, c.response.Timing = event.Summary.GetUsage(), event.Summary.GetTiming()
		c.isWhole = true
	}
	return nil
}

func (c *collector) at(index uint32) *pb.Candidate {
	if int(index) >= len(c.response.Candidates) {
		return nil
	}
	return c.response.Candidates[index]
}

func (c *collector) append(delta *pb.Delta) {
	candidate := c.at(delta.GetIndex())
	if candidate == nil {
		return
	}
	candidate.Text += delta.GetText()
	candidate.Reasoning += delta.GetReasoning()
	candidate.TokenIds = append(candidate.TokenIds, delta.GetTokenIds()...)
	candidate.Logprobs = append(candidate.Logprobs, delta.GetLogprobs()...)
	candidate.NumTokens += delta.GetNumTokens()
	for _, piece := range delta.GetToolCalls() {
		if int(piece.GetIndex()) < len(candidate.ToolCalls) {
			candidate.ToolCalls[piece.GetIndex()].ArgumentsJson += piece.GetArgumentsJson()
			continue
		}
		candidate.ToolCalls = append(candidate.ToolCalls, &pb.ToolCall{Id: piece.GetId(), Index: piece.GetIndex(),
			Name: piece.GetName(), ArgumentsJson: piece.GetArgumentsJson()})
	}
}
