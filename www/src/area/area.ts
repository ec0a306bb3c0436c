// The part of the package that segments areas: fetched when it is first used.

export { estimate } from "./plan.ts";
export { Run } from "./run.ts";
