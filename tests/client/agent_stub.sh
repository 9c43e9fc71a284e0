#!/bin/bash
# In place of claude-agent-wrapper where the wrapper is not the subject: its events, no model.
ID=11111111-2222-4333-8444-555555555555
say() { printf '{"type":"assistant","message":{"content":[{"type":"text","text":"%s"}]}}\n' "$1"; }
complete() { printf '{"type":"turn_complete","claude_session_id":"%s"}\n' "$ID"; }

echo '{"type":"ready"}'
echo 'the log of the wrapper' >&2
while IFS= read -r line; do
    case $line in
    '{"type":"configure"'*)
        echo "configured with $line" >&2
        echo '{"type":"configured"}'
        ;;
    '{"type":"interrupt"'*)
        echo '{"type":"interrupted"}'
        complete
        ;;
    *hang*)
        echo '{"type":"system","subtype":"init"}'
        say waiting
        ;;
    *deaf*)
        say deaf
        exec sleep 600
        ;;
    *fail*)
        echo '{"type":"result","subtype":"error_during_execution","is_error":true}'
        echo '{"type":"error","message":"it went\u001b[31m wrong"}'
        complete
        ;;
    *die*)
        echo '{"type":"error","message":"ANTHROPIC_API_KEY is not set"}'
        exit 1
        ;;
    *odd*)
        echo 'no json at all'
        echo '[1,2]'
        echo '{"type":"assistant"}'
        echo '{"type":"assistant","message":{"content":[7,{"type":"tool_use","input":{"x":[1]}},{"type":"text"}]}}'
        echo '{"type":"user","message":{"content":"text"}}'
        echo '{"type":"novelty","message":{}}'
        complete
        ;;
    *)
        echo '{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls \u001b[2J\nsecond line"}}]}}'
        echo '{"type":"user","message":{"content":[{"type":"tool_result","content":"a.c\nb.c"}]}}'
        say 'first line\nsecond \u001b]0;x\u0007l\u009bine'
        echo '{"type":"result","subtype":"success","is_error":false,"result":"x"}'
        complete
        ;;
    esac
done
