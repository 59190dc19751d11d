#!/bin/sh
# What the Lambda Web Adapter starts; the package's own Python path is all there is.
cd "$LAMBDA_TASK_ROOT" || exit 1
export PYTHONPATH="$LAMBDA_TASK_ROOT"
exec python3 -m functions.query.serving
