"""The API group ``voicekeys.dev/v1alpha1`` as Python sees it: names, specs, statuses, condition types.

The schemas in ``crds/`` are the source of truth; ``tests/api`` holds these models equal to them.
"""
