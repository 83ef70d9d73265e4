// A record: one finished picture with everything that made it.

/** The records of a finished request. */
export function recordsOf(request, model) {
  const { parameters, timings } = request.summary;
  return request.images.map(({ blob, seed }) => ({
    blob, seed, timings,
    created: Date.now(),
    label: parameters.class_label,
    name: parameters.class_name,
    guidance: parameters.cfg_scale,
    steps: parameters.num_sampling_steps,
    sampler: parameters.sampler,
    interval: parameters.guidance_interval,
    quality: parameters.quality ?? request.settings.quality ?? null,
    count: parameters.num_images,
    model: model.id,
    digest: model.digest,
  }));
}

/** The settings that make this one picture again, whatever a preset means later. */
export const settingsOf = ({ label, guidance, steps, sampler, interval, seed }, catalogue) => ({
  label: catalogue.byId.get(label) ?? label,
  quality: null,
  guidance, steps, sampler, interval, seed,
  count: 1,
});

/** One line of facts. */
export function factsOf(record) {
  const { name, seed, guidance, steps, sampler, interval: [low, high], timings } = record;
  const stages = Object.entries(timings).map(([stage, seconds]) => `${stage} ${seconds.toFixed(2)}`);
  const parts = [`seed ${seed}`, `guidance ${guidance}`, `${steps} steps`, sampler];
  if (low > 0 || high < 1) parts.push(`guided\u00a0${high}\u00a0to\u00a0${low}`);
  return { name, parts, stages: `${stages.join(" s, ")} s` };
}

export const fileName = ({ name, seed }) => `${name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-${seed}.png`;
