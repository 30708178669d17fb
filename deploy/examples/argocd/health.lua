-- Health of a VoiceKeyBinding or VoiceKeyStore for Argo CD, from the conditions that kstatus uses.
--
-- An old pod that finishes its calls, or a Vault that is away for a while, is no illness: Ready stays True for both.
local health = {status = "Progressing", message = "Waiting for voicekeys"}
local status = obj.status
if status == nil or status.conditions == nil then
  return health
end

local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end

local function is_true(condition)
  return condition ~= nil and condition.status == "True"
end

-- Suspended is said for the spec as it is: no newer answer will come until somebody resumes it.
if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true"}
end

if status.observedGeneration ~= obj.metadata.generation then
  health.message = "Waiting for voicekeys to see this generation"
  return health
end

if is_true(found.Stalled) then
  return {status = "Degraded", message = found.Stalled.message}
end

if is_true(found.Ready) then
  return {status = "Healthy", message = found.Ready.message}
end

if found.Ready ~= nil then
  health.message = found.Ready.message
end
if is_true(found.Reconciling) and found.Reconciling.message ~= nil then
  health.message = found.Reconciling.message
end
return health
