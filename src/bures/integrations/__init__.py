"""bures among the tools that its users already have: each imports its package only when it is used.

inspect_provider, inspect_task   Inspect AI: the model under an intervention, and the audit's prompts as a task
lm_eval, capability_tasks        lm-eval: capability under an intervention, with task data that need no network
vllm_engine, vllm_probe          an audit's answers by vLLM, after a check that it computes the same
vllm_worker                      the maps, inside vLLM's workers
"""
